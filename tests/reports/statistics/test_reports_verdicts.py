"""Verdicts and sentences on numbers made by hand: words follow intervals and tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from report_runs import FAMILIES, Seen, evaluation, make_run, split

from mmattn.reports.collect.groups import group_runs
from mmattn.reports.collect.runs import Split, collect_runs
from mmattn.reports.page.report import write_report
from mmattn.reports.statistics.agreement import Agreement, sentence
from mmattn.reports.statistics.bundle import statistics, with_intervals
from mmattn.reports.statistics.findings import findings
from mmattn.reports.statistics.verdicts import judge
from mmattn.weighting.causal import SUBSETS
from mmattn.weighting.clip_scores import ClipScores, scores_file

WIDE, NARROW = 0.8, 0.03


def verdict(family, *values, reach=NARROW):
    """With intervals of +- `reach` around each part."""
    made = split(*values)
    if made["video"] is not None:
        made["interval"] = {part: (made[part] - reach, made[part] + reach) for part in ("video", "audio", "synergy")}
    found = judge(family, Split(**made))
    assert found is not None
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_known_answer_passes_where_intervals_are_narrow_enough(family):
    assert verdict(family, *FAMILIES[family]).state == "pass"
    assert verdict(family, *FAMILIES[family], reach=WIDE).state == "open"
    assert verdict(family, *FAMILIES[family], reach=WIDE).text.startswith("not shown to be learned")


@pytest.mark.parametrize(
    ("family", "values", "state", "why"),
    [
        ("picture", (0.4, 0.6, 0.7, 0.9), "fail", "depends on the sound +0.30 (+0.27 to +0.33)"),
        ("sound", (0.3, 0.3, 0.31, 0.31), "open", "not shown to be learned"),
        ("redundant", (0.3, 0.29, 1.0, 1.0), "fail", "depends on the sound only: picture"),
        ("redundant", (0.3, 0.3, 0.3, 0.9), "fail", "needs both"),
        ("redundant", (0.3, 0.61, 0.61, 0.9), "open", "can replace the other: synergy \u22120.02"),
        ("synergy", (0.45, 0.46, 0.44, 0.45), "open", "not shown to be learned"),
        ("synergy", (0.4, 0.7, 0.4, 0.7), "open", "no joint effect shown"),
        ("synergy", (0.4, 0.7, 0.7, 0.8), "fail", "no joint effect shown: synergy \u22120.20"),
    ],
)
def test_another_answer_is_told_with_its_interval(family, values, state, why):
    found = verdict(family, *values)
    assert found.state == state and why in found.text


def test_undefined_numbers_unknown_families_and_missing_intervals_get_no_judgement():
    assert verdict("synergy", None, 0.4, 0.4, 0.9).state == "undefined"
    assert judge("birds", Split(**split(0.1, 0.2, 0.3, 0.4))) is None
    without = judge("synergy", Split(**split(0.4, 0.4, 0.4, 0.9)))
    assert without is not None and without.state == "undefined" and "no interval" in without.text


CLIPS, TAGS = 60, ("picture/x", "sound/x", "synergy/x")


def trained(path: Path, seed: int, lr: float, joint: float, heard: float = 0.0) -> Path:
    """A run whose tags are known from what they need, `joint` how well those that need both; its attention is on sound
    by `heard` more than its prior."""
    run = make_run(path, record=evaluation(), lr=lr)
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + f"seed: {seed}\n")
    shared, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed + 100 * round(1000 * lr))
    targets = (torch.rand(CLIPS, 3, generator=shared) < 0.5).float()
    known = {"none": (0.0, 0.0, 0.0), "video": (2.0, 0.0, 0.0), "audio": (0.0, 1.5, 0.0), "both": (2.0, 1.5, joint)}

    def score(skills: tuple[float, ...]) -> torch.Tensor:
        noise = torch.randn(CLIPS, 3, generator=own)
        return torch.sigmoid(torch.tensor(skills) * (2 * targets - 1) + noise * (torch.tensor(skills) > 0))

    scores = {subset: score(known[subset]) for subset in SUBSETS}
    permuted = {"video": score((0.0, 1.5, 0.0)), "audio": score((2.0, 0.0, 0.0))}
    mass = 0.4 + heard + 0.02 * torch.randn(CLIPS, 2, generator=own)
    attention = torch.stack([mass, torch.full_like(mass, 0.4)], dim=2)
    ids, families = tuple(f"c{i}" for i in range(CLIPS)), {tag: tag.partition("/")[0] for tag in TAGS}
    found = ClipScores(ids, TAGS, families, {}, targets, scores, permuted=permuted, attention=attention)
    found.save(scores_file(run, "val"))
    return run


def told(rows: dict[str, float], seeds: int, folder: Path) -> list[str]:
    runs = [trained(folder / f"{name}-{seed}", seed, 0.001 * (i + 1), joint)
            for i, (name, joint) in enumerate(rows.items()) for seed in range(seeds)]  # fmt: skip
    groups = group_runs(collect_runs(runs))
    found = statistics(groups, "mAP")
    groups = with_intervals(groups, found)
    return [finding.text for finding in findings([group.mean for group in groups], found, (), "mAP")]


def test_the_summary_is_short_and_says_what_the_tests_say(tmp_path):
    lines = told({"a": 0.0, "b": 3.0}, 3, tmp_path)
    assert len(lines) <= 5
    assert "cross lr=0.002 has the highest mAP" in lines[0] and "it is ahead of cross lr=0.001" in lines[0]
    assert "on synergy tags cross lr=0.002 is ahead of cross lr=0.001" in lines[1]
    assert "on picture and sound tags no row is shown to be ahead" in lines[1]
    assert "picture 2 of 2" in lines[2] and "synergy 1 of 2" in lines[2]
    assert "val clips" in lines[-1] and "beat" not in " ".join(lines)


def test_without_enough_seeds_the_highest_is_named_and_nothing_is_tested(tmp_path):
    first, *_, last = told({"a": 0.0, "b": 3.0}, 2, tmp_path)
    assert "cross lr=0.002 has the highest mAP" in first and "not tested, as a test needs 3 seeds" in first
    assert "another seed of training may change the order" in last


def test_equal_rows_are_not_called_better(tmp_path):
    first, *_ = told({"a": 1.0, "b": 1.0, "c": 1.0}, 4, tmp_path)
    assert "no difference is shown from any other row" in first


def test_of_many_equal_rows_the_summary_names_a_few(tmp_path):
    runs = []
    for seed in range(3):
        first = trained(tmp_path / f"0-{seed}", seed, 0.001, 1.0)
        for copy in range(8):
            run = first if not copy else Path(shutil.copytree(first, tmp_path / f"{copy}-{seed}"))
            (run / "config.yaml").write_text((first / "config.yaml").read_text() + f"dim: {copy}\n")
            runs.append(run)
    groups = group_runs(collect_runs(runs))
    found = statistics(groups, "mAP")
    first, *_ = findings([group.mean for group in groups], found, (), "mAP")
    assert "dim=0, cross dim=1, cross dim=2 and 5 more have the highest mAP" in first.text.replace(
        "cross dim=0", "dim=0"
    )


def test_rows_without_clip_scores_still_have_a_highest_one(tmp_path):
    runs = [make_run(tmp_path / "a", record=evaluation(FAMILIES | {"synergy": (0.45, 0.45, 0.45, 0.5)})),
            make_run(tmp_path / "b")]  # fmt: skip
    groups = group_runs(collect_runs(runs))
    means = [group.mean for group in groups]
    found = findings(means, statistics(groups, "mAP"), [run.scores.mean for run in means], "mAP")
    assert (
        "b has the highest mAP, 0.912 (a 0.835)" in found[0].text and "2 runs without per-clip scores" in found[0].text
    )


def test_runs_on_other_clips_are_flagged(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", record=evaluation(clips=100))]
    groups = group_runs(collect_runs(runs))
    found = findings([group.mean for group in groups], statistics(groups, "mAP"))
    assert any("not scored on the same clips" in finding.text for finding in found)


def test_weightings_have_intervals_tests_and_can_be_the_main_column(tmp_path):
    runs = [trained(tmp_path / f"{lr}-{seed}", seed, lr, 1.0, heard) for lr, heard in ((0.001, 0.0), (0.002, 0.2))
            for seed in range(3)]  # fmt: skip
    groups = group_runs(collect_runs(runs))
    found = statistics(groups, "shapley/audio")
    assert found.main.metric == "shapley/audio" and all(one and one.low > 0 for one in found.main.estimates)
    assert not found.main.pairs[0, 1].differs
    assert found.weightings["attention"].pairs[0, 1].differs
    even, leaning = found.weightings["attention"].estimates
    assert even and leaning and even.low < 0 < even.high and leaning.low > 0.2
    assert all(one and one.low > 0 for one in found.weightings["permutation/video"].estimates)
    for part in ("video", "audio", "synergy"):
        own = found.weightings[f"shapley/{part}"].estimates[0]
        assert own and own.low <= own.value <= own.high and own.tested
    known = with_intervals(groups, found)[0].mean.scores
    assert known.shapley_by_family["synergy"].interval.keys() == {"video", "audio", "synergy"}


@pytest.mark.parametrize(
    ("looks", "depends", "words"),
    [("sound", "picture", "different senses"), ("sound", "sound", "agree"), ("", "sound", "its attention contains 0")],
)
def test_attention_is_set_against_the_causal_split(tmp_path, looks, depends, words):
    (run,) = collect_runs([make_run(tmp_path / "a")])
    found = sentence(run, Agreement(looks, depends, True))
    assert found is not None and words in found.text


def test_the_page_shows_letters_intervals_of_weightings_and_every_test(tmp_path):
    runs = [trained(tmp_path / f"{i}-{seed}", seed, 0.001 * (i + 1), joint) for i, joint in enumerate((0.0, 3.0))
            for seed in range(3)]  # fmt: skip
    page = write_report(runs, None, tmp_path / "page.html")
    text = Seen(page).text
    assert "rows that share a letter do not differ significantly (all pairs tested, seed by seed" in text
    assert "No letters" not in text and "✓ as expected" in text and "? open" in text
    record = json.loads(page.with_suffix(".json").read_text())
    assert [row["rank"] for row in record["rows"]] == ["b", "a"] and record["rows"][1]["differs_from_baseline"]
    (pair,) = [one for one in record["pairs"] if one["metric"] == "mAP"]
    assert pair["p_adjusted"] <= 0.05 and pair["differs"] and pair["low"] <= pair["difference"] <= pair["high"] < 0
    weighed = {one["weighting"] for one in record["weightings"]}
    assert weighed >= {"attention", "shapley/audio", "permutation/video"}
    own = next(one for one in record["weightings"] if one["weighting"] == "shapley/audio")
    assert f"{own['low']:+.2f} to {own['high']:+.2f}" in text
