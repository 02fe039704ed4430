"""Intervals that cover, pairs that cancel, letters that say exactly who differs; known numbers of made-up runs."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from report_runs import evaluation, make_run

from mmattn.errors import UsageError
from mmattn.metrics.tags import average_precision
from mmattn.reports.collect.groups import Group, group_runs
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.page.report import write_report
from mmattn.reports.statistics.comparison import Comparison
from mmattn.reports.statistics.letters import rank_letters
from mmattn.reports.statistics.scored import Scored
from mmattn.reports.statistics.significance import compare
from mmattn.weighting.causal import SUBSETS
from mmattn.weighting.clip_scores import ClipScores, scores_file

CLIPS, TAGS = 120, 4


def clip_scores(skill: float, seed: int, ids: range = range(CLIPS), noise: float = 0.3) -> ClipScores:
    """Scores that follow the truth by `skill`; the truth, and half of the noise, are those of every run."""
    shared = torch.Generator().manual_seed(99)
    targets = (torch.rand(CLIPS, TAGS, generator=shared) < 0.4).float()
    hard = torch.randn(CLIPS, TAGS, generator=shared)
    own = torch.randn(CLIPS, TAGS, generator=torch.Generator().manual_seed(seed))
    both = torch.sigmoid(skill * (targets * 2 - 1) + hard + noise * own)
    rows = torch.tensor(list(ids))
    scores = dict.fromkeys(SUBSETS, both[rows])
    names = tuple(f"t{i}" for i in range(TAGS))
    return ClipScores(tuple(f"c{i:03d}" for i in ids), names, {"t0": "sound"}, {"g": (0, 1)}, targets[rows], scores)


def grid(tmp_path: Path, skills: dict[str, float], seeds: int = 1, **more) -> list[Group]:
    """A group a name, trained with so many seeds."""
    paths = []
    for number, (name, skill) in enumerate(skills.items()):
        for seed in range(seeds):
            run = make_run(tmp_path / f"{name}-{seed}", record=evaluation(), lr=0.001 * (number + 1))
            config = (run / "config.yaml").read_text() + f"seed: {seed}\n"
            (run / "config.yaml").write_text(config)
            clip_scores(skill, 1000 * number + seed, **more).save(scores_file(run, "val"))
            paths.append(run)
    return group_runs(collect_runs(paths))


def test_scores_are_those_of_the_clips_and_the_intervals_hold_them(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"weak": 0.3, "strong": 2.0}, seeds=3)
    assert [len(group.runs) for group in groups] == [3, 3]
    found = compare(Scored(groups), "mAP")
    for number, estimate in enumerate(found.estimates):
        own = []
        for seed in range(3):
            scores = clip_scores((0.3, 2.0)[number], 1000 * number + seed)
            own.append(float(average_precision(scores.scores["both"], scores.targets).mean()))
        assert estimate is not None and estimate.value == pytest.approx(sum(own) / 3, abs=1e-6)
        assert estimate.low < estimate.value < estimate.high and estimate.high - estimate.low < 0.3
        assert estimate.seeds == pytest.approx(own, abs=1e-6) and estimate.tested
    weak, strong = found.estimates
    delta = found.difference(1, 0)
    assert weak and strong and delta and delta.differs and delta.p and delta.adjusted == delta.p
    assert delta.value == pytest.approx(strong.value - weak.value) and delta.low > 0
    other = found.difference(0, 1)
    assert other and (other.low, other.high) == (-delta.high, -delta.low)
    assert (strong.letters, weak.letters) == ("a", "b") and found.clips == CLIPS and not found.missing


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_not_tested(tmp_path: Path, seeds: int) -> None:
    found = compare(Scored(grid(tmp_path, {"weak": 0.3, "strong": 2.0}, seeds=seeds)), "mAP")
    delta = found.difference(1, 0)
    assert delta and delta.low > 0, "over clips"
    assert not delta.tested and not delta.differs and not found.tested
    assert all(one and one.letters == "" and len(one.seeds) == seeds and not one.tested for one in found.estimates)
    page = write_report([run.path for group in grid(tmp_path / "b", {"x": 0.3, "y": 2.0}, seeds) for run in group.runs],
                        None, tmp_path / "page.html").read_text(encoding="utf-8")  # fmt: skip
    assert "a test needs three seeds" in page and 'title="rows that share a letter' not in page
    assert page.count('class="seed" cx') == (0 if seeds == 1 else 4)


def test_rows_of_enough_seeds_are_tested_beside_others_that_are_not(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"weak": 0.3, "strong": 2.0, "few": 1.0}, seeds=3)
    one = groups[2].runs[0]
    found = compare(Scored([*groups[:2], Group("few", (one,), one)]), "mAP")
    assert [estimate.letters for estimate in found.estimates if estimate] == ["b", "a", ""]
    assert [pair for pair, each in found.pairs.items() if each.tested] == [(0, 1)]


def test_pairing_sees_what_single_intervals_do_not(tmp_path: Path) -> None:
    """Hard clips are hard for both, so the difference is known better than either score."""
    found = compare(Scored(grid(tmp_path, {"a": 0.9, "b": 1.1}, seeds=3, noise=0.02)), "mAP")
    a, b = found.estimates
    delta = found.difference(1, 0)
    assert a and b and delta and delta.high - delta.low < 0.5 * (a.high - a.low)
    assert b.low < a.high and delta.differs, "intervals overlap, the paired difference does not reach zero"


def test_seeds_are_paired_by_number_and_not_by_place(tmp_path: Path) -> None:
    """Seeds act alike on both rows, which have them in other orders, and one row has a seed more."""
    skills = {"7": 0.2, "8": 0.5, "9": 0.8, "10": 1.6}
    paths = []
    for row, (better, order) in enumerate(((0.0, ("7", "8", "9", "10")), (0.1, ("9", "7", "8")))):
        for place, seed in enumerate(order):
            run = make_run(tmp_path / f"{'ab'[row]}{place}", record=evaluation(), lr=0.001 * (row + 1))
            (run / "config.yaml").write_text((run / "config.yaml").read_text() + f"seed: {seed}\n")
            clip_scores(skills[seed] + better, int(seed), noise=0.02).save(scores_file(run, "val"))
            paths.append(run)
    found = compare(Scored(group_runs(collect_runs(paths))), "mAP")
    delta = found.difference(1, 0)
    assert found.paired and delta and delta.low > 0 and delta.high < 0.15
    a, b = found.estimates
    assert a and b and a.value > b.value, "though the mean over its own seeds, one of them the best, is higher"


def test_the_same_model_twice_does_not_differ_from_itself(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"a": 1.0, "b": 1.0}, seeds=3)
    for seed in range(3):
        clip_scores(1.0, seed).save(scores_file(groups[1].runs[seed].path, "val"))
    delta = compare(Scored(groups), "mAP").difference(1, 0)
    assert delta and (delta.value, delta.low, delta.high, delta.differs) == (0.0, 0.0, 0.0, False)


def test_seeds_that_disagree_widen_the_interval(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"a": 1.0}, seeds=3)
    narrow = compare(Scored(groups), "mAP").estimates[0]
    clip_scores(3.0, 7).save(scores_file(groups[0].runs[1].path, "val"))
    wide = compare(Scored(groups), "mAP").estimates[0]
    assert narrow and wide and wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_clips_of_one_video_are_drawn_together(tmp_path: Path) -> None:
    """Each clip four times over says no more than once; taken for independent ones, it would halve the interval."""
    groups = grid(tmp_path, {"a": 1.0})
    once = clip_scores(1.0, 0)
    path = scores_file(groups[0].runs[0].path, "val")

    def width(videos: tuple[str, ...] | None) -> float:
        names = tuple(f"{name}.{k}" for name in once.ids for k in range(4))
        scores = {subset: values.repeat_interleave(4, dim=0) for subset, values in once.scores.items()}
        replace(once, ids=names, targets=once.targets.repeat_interleave(4, dim=0), scores=scores,
                videos=videos).save(path)  # fmt: skip
        found = compare(Scored(groups), "mAP")
        assert found.estimates[0] and found.videos == (len(names) if videos is None else CLIPS)
        return found.estimates[0].high - found.estimates[0].low

    once.save(path)
    known = compare(Scored(groups), "mAP").estimates[0]
    assert known
    by_video = width(tuple(name for name in once.ids for _ in range(4)))
    assert by_video == pytest.approx(known.high - known.low, rel=0.15) and width(None) < 0.65 * by_video


@pytest.mark.parametrize("metric", ["mAP/sound", "accuracy", "cider_d"])
def test_other_metrics(tmp_path: Path, metric: str) -> None:
    groups = grid(tmp_path, {"a": 0.5, "b": 2.5}, seeds=3)
    for number, group in enumerate(groups):
        lines = [
            {"id": f"c{i:03d}", "captioning": {"metrics": {"cider_d": 5.0 * number + (i % 3)}}} for i in range(CLIPS)
        ]
        for run in group.runs:
            path = run.path / "evaluation-val-clips.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compare(Scored(groups), metric)
    a, b = found.estimates
    delta = found.difference(1, 0)
    assert a and b and a.value < b.value and delta and delta.differs
    if metric == "cider_d":
        assert (a.value, b.value) == (pytest.approx(1.0), pytest.approx(6.0))
    if metric == "accuracy":
        scores = clip_scores(0.5, 0)
        asked = scores.targets[:, :2].any(dim=1)
        right = scores.targets.gather(1, scores.scores["both"][:, :2].argmax(dim=1, keepdim=True))[:, 0]
        assert a.seeds[0] == pytest.approx(float(right[asked].mean()))


def test_clips_that_only_some_have_stay_out(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"a": 0.5, "b": 2.5})
    clip_scores(2.5, 3, ids=range(20, CLIPS)).save(scores_file(groups[1].runs[0].path, "val"))
    found = compare(Scored(groups), "mAP")
    assert (found.clips, found.left_out) == (CLIPS - 20, 20)


def test_clips_of_another_set_with_the_same_names_stay_out(tmp_path: Path) -> None:
    """Generated sets number their clips alike: what a clip's tags are tells two of the same name apart."""
    groups = grid(tmp_path, {"a": 0.5, "b": 2.5})
    path = scores_file(groups[1].runs[0].path, "val")
    own = clip_scores(2.5, 3)
    moved = own.targets.clone()
    moved[:30] = 1 - moved[:30]
    replace(own, targets=moved).save(path)
    found = compare(Scored(groups), "mAP")
    assert (found.clips, found.left_out) == (CLIPS - 30, 30)
    replace(own, targets=1 - own.targets).save(path)
    assert compare(Scored(groups), "mAP").resampled == 0
    page = write_report([group.runs[0].path for group in groups], None, tmp_path / "c.html").read_text()
    assert "not tested: the rows share no clips" in page and "the rows share fewer than two clips" in page
    assert "without per-clip scores" not in page


def test_a_row_in_which_the_metric_is_not_defined_is_named(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"a": 0.5, "b": 2.5, "c": 1.0}, seeds=3)
    empty = replace(clip_scores(1.0, 5), targets=torch.zeros(CLIPS, TAGS))
    runs = [run.path for group in groups for run in group.runs]
    for run in groups[1].runs:
        replace(empty, tags=tuple(f"u{i}" for i in range(TAGS))).save(scores_file(run.path, "val"))
    page = write_report(runs, None, tmp_path / "c.html").read_text()
    assert f"not tested: mAP is not defined for {groups[1].name}" in page


def test_runs_without_scores_are_named_and_have_no_estimate(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"a": 0.5, "b": 2.5, "c": 1.0})
    path = groups[1].runs[0].path
    scores_file(path, "val").unlink()
    found: Comparison = compare(Scored(groups), "mAP")
    assert found.missing == (path,) and [bool(e) for e in found.estimates] == [True, False, True]
    with pytest.raises(UsageError, match="mAP/sound"):
        compare(Scored(groups), "mAP/birds")
    with pytest.raises(UsageError):
        compare(Scored(groups), "beauty")


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_two_share_a_letter_exactly_if_they_do_not_differ(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        pairs = list(itertools.combinations(range(count), 2))
        different = {pair for pair in pairs if float(torch.rand((), generator=generator)) < share}
        letters = [set(row.split()) for row in rank_letters(count, different)]
        assert all(letters)
        for i, j in pairs:
            assert bool(letters[i] & letters[j]) == ((i, j) not in different)


def test_letters_go_on_after_z() -> None:
    pairs = set(itertools.combinations(range(30), 2))
    letters = rank_letters(30, pairs)
    assert letters[0] == "a" and letters[25] == "z" and letters[26] == "aa" and len(set(letters)) == 30


def test_scores_of_another_model_than_the_evaluation_are_told(tmp_path: Path) -> None:
    groups = grid(tmp_path, {"a": 1.0})
    path = groups[0].runs[0].path
    record = json.loads((path / "evaluation.json").read_text()) | {"clips": CLIPS}
    (path / "evaluation.json").write_text(json.dumps(record))
    page = write_report([path], None, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "its evaluation has 0.912" in page
    scores = clip_scores(1.0, 0)
    record["metrics"]["mAP"] = float(average_precision(scores.scores["both"], scores.targets).mean())
    (path / "evaluation.json").write_text(json.dumps(record))
    assert "its evaluation has" not in write_report([path], None, tmp_path / "page.html").read_text(encoding="utf-8")
