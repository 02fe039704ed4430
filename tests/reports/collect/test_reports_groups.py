"""Which runs are meant, which are one row, what they are called, whether they are comparable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from report_runs import FAMILIES, evaluation, make_run

from mmattn.config.compose import compose
from mmattn.errors import UsageError
from mmattn.reports.collect.choices import choice_of
from mmattn.reports.collect.cost import Cost, Length
from mmattn.reports.collect.groups import group_runs
from mmattn.reports.collect.metrics import training_seconds
from mmattn.reports.collect.noise import noise_sweep
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.collect.select import select_runs
from mmattn.reports.collect.timing import Timed
from mmattn.reports.page.compare import compare
from mmattn.reports.statistics.fairness import factors_of, fairness


def seeded(path: Path, seed: int, score: float, **more) -> Path:
    record = evaluation(FAMILIES | {"synergy": (0.45, 0.45, 0.45, score)})
    run = make_run(path, record=record, **more)
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"seed": seed, "data": {"seed": seed}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


@pytest.mark.parametrize(
    ("group", "name"),
    [("attention", name) for name in ("dense", "time_window", "sliding", "bigbird", "linear", "gaussian")]
    + [("fusion", name) for name in ("late", "cross", "tensor", "recurrent")],
)
def test_a_frozen_config_is_called_what_was_chosen(group: str, name: str) -> None:
    assert choice_of(group, compose("train", [f"{group}={name}"])[group]) == name


def test_settings_do_not_change_what_it_is_called() -> None:
    config = compose("train", ["attention=time_window", "attention.pattern.past_s=2.5", "fusion=bottleneck"])
    assert choice_of("attention", config["fusion"]["attention"]) == "time_window"
    assert choice_of("fusion", {"_target_": "my.own.SpecialFusion"}) == "special"
    assert choice_of("fusion", None) is None and choice_of("attention", {}) is None


def test_rows_that_differ_in_a_setting_of_the_fusion_are_called_by_it(tmp_path: Path) -> None:
    for layers, fusion in ((1, "cross"), (2, "cross"), (1, "late")):
        for seed in (0, 1):
            run = seeded(tmp_path / f"{fusion}-{layers}-{seed}", seed, 0.5, fusion=fusion)
            config = yaml.safe_load((run / "config.yaml").read_text())
            config["fusion"]["layers"] = layers
            (run / "config.yaml").write_text(yaml.safe_dump(config))
    names = [group.name for group in group_runs(collect_runs(select_runs(f"{tmp_path}/*", None)))]
    assert names == ["cross layers=1", "cross layers=2", "late"]


def test_runs_are_listed_matched_and_found(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "sweep" / name) for name in ("b", "a")] + [make_run(tmp_path / "sweep" / "deep" / "c")]
    (tmp_path / "sweep" / "notes").mkdir()
    names = [str(run) for run in runs]
    assert select_runs(names, None) == runs, "a list is taken as it is"
    assert select_runs(f"{tmp_path}/sweep/*", None) == [runs[1], runs[0]]
    assert select_runs([f"{tmp_path}/sweep/[ab]"], None) == [runs[1], runs[0]]
    assert select_runs(None, f"{tmp_path}/sweep") == [runs[1], runs[0], runs[2]]
    with pytest.raises(UsageError, match="matches nothing"):
        select_runs(f"{tmp_path}/x*", None)


def test_a_pattern_leaves_out_what_is_not_finished_and_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "a")
    (make_run(tmp_path / "runs" / "b") / "evaluation.json").unlink()
    config = compose("compare", ["runs=runs/*", "measure=none"])
    page = compare(config).read_text(encoding="utf-8")
    assert "Left out because no validation has finished: runs/b." in page
    (tmp_path / "runs" / "a" / "evaluation.json").unlink()
    with pytest.raises(UsageError, match="none of the 2 runs has finished"):
        compare(config)


def test_runs_that_differ_in_their_seed_are_one_row_of_means(tmp_path: Path) -> None:
    runs = [seeded(tmp_path / f"{lr}-{seed}", seed, 0.6 + 0.1 * seed, lr=lr) for lr in (0.1, 0.2) for seed in (1, 0)]
    groups = group_runs(collect_runs(runs))
    assert [group.name for group in groups] == ["cross lr=0.1", "cross lr=0.2"]
    assert [[run.seed for run in group.runs] for group in groups] == [["0", "1"]] * 2
    for group in groups:
        assert group.mean.scores.by_family["synergy"] == pytest.approx(0.65)
        assert group.mean.scores.shapley_by_family["synergy"].value["both"] == pytest.approx(0.65)
        assert group.mean.curves["val/mAP"] == group.runs[0].curves["val/mAP"]
        (head,) = group.mean.scores.heads
        assert head.mass == pytest.approx(0.62) and head.prior == pytest.approx(0.44)


def test_the_same_run_twice_is_not_two_seeds(tmp_path: Path) -> None:
    runs = [seeded(tmp_path / name, 0, 0.6) for name in ("a", "b")]
    assert [group.name for group in group_runs(collect_runs(runs))] == ["a", "b"]
    assert len(group_runs(collect_runs([runs[0], runs[0]]))) == 2


def test_what_differs_beside_the_factor_is_said(tmp_path: Path) -> None:
    groups = group_runs(collect_runs([make_run(tmp_path / "a"), make_run(tmp_path / "b", "late", lr=0.5)]))
    assert factors_of(groups, None) == ("fusion",)
    beside, seeds, *_ = fairness(groups, ("fusion",), {}, {})
    assert "also differ in optim.lr," in beside.text and beside.weight == "caution"
    assert "One seed each" in seeds.text
    beside, *_ = fairness(groups, ("fusion", "optim"), {}, {})
    assert "All other settings are the same" in beside.text and beside.weight == "plain"
    assert factors_of(group_runs(collect_runs([make_run(tmp_path / "c"), make_run(tmp_path / "d", lr=0.5)])), None) == (
        "optim",
    )


def test_latencies_of_two_machines_are_not_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", "late")]
    groups = group_runs(collect_runs(runs))
    costs = {
        str(run): Cost(Timed(1.0, 0.9, 1.1), (Length(1.0, 1, 1),), f"machine {i}", "") for i, run in enumerate(runs)
    }
    text = " ".join(finding.text for finding in fairness(groups, ("fusion",), costs, {}))
    assert "on 2 machines (machine 0; machine 1) and cannot be compared" in text


def test_encoders_are_what_is_compared_though_they_bring_their_own_clips(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    for run, size in zip(runs, (64, 96), strict=True):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config |= {"data": {"clip": {"height": size}}, "visual": {"_target_": f"my.Encoder{size}"}}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert factors_of(group_runs(collect_runs(runs)), None) == ("visual",)


@pytest.mark.parametrize(
    ("machines", "says"),
    [
        ([{"host": "n1", "gpu": "A", "driver": "1"}] * 2, "in all."),
        ([{"host": "n1", "gpu": "A", "driver": "1"}, {"host": "n1", "gpu": "B", "driver": "1"}], "2 machines (A, "),
        ([{"host": "n1", "gpu": "A", "driver": "1"}, {"host": "n1", "gpu": "A", "driver": "2"}], "not comparable."),
        ([{"host": "n1", "processor": "x"}, {"host": "n2", "processor": "x"}], "(x in n1; x in n2)"),
        ([{"host": "n1", "processor": "x"}, {}], "Some runs do not record their machine"),
    ],
)  # fmt: skip
def test_training_times_are_of_one_host_gpu_and_driver(tmp_path: Path, machines: list[dict], says: str) -> None:
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", "late")]
    for run, machine in zip(runs, machines, strict=True):
        (run / "run.json").write_text(json.dumps({"machine": machine, "platform": "p", "cores": 4}))
    groups = group_runs(collect_runs(runs))
    seconds: dict[str, float | None] = {str(run): 85.0 + 40 * i for i, run in enumerate(runs)}
    text = " ".join(finding.text for finding in fairness(groups, ("fusion",), {}, seconds))
    assert says in text and "1 min 25 s" in text and "2 min 5 s" in text


def test_training_time_counts_every_part_of_a_resumed_run(tmp_path: Path) -> None:
    lines = [{"time": 3.0}, {"time": 10.5, "x": 1}, {"time": 2.0}, {"time": 4.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*map(json.dumps, lines), '{"time": 9', "[1]"]))
    assert training_seconds(tmp_path) == pytest.approx(14.5)
    assert training_seconds(tmp_path / "nowhere") is None


def test_noise_sweeps_are_read_by_loudness(tmp_path: Path) -> None:
    for name in ("test-babble-10dB", "test-babble+5dB", "test-white+0dB", "val-babble+2.5dB"):
        (tmp_path / f"evaluation-{name}.json").write_text(json.dumps(evaluation()))
    (tmp_path / "evaluation-test-pink+1dB.json").write_text("{")
    (tmp_path / "evaluation-test-time_window.json").write_text(json.dumps(evaluation()))
    found = [(one.split, one.kind, one.snr_db) for one in noise_sweep(tmp_path)]
    assert found == [("test", "babble", -10.0), ("test", "babble", 5.0), ("test", "white", 0.0), ("val", "babble", 2.5)]


def test_a_setting_that_was_added_since_does_not_split_a_row(tmp_path: Path) -> None:
    def run(seed: int, *overrides: str, lacking: tuple[str, ...] = ()) -> Path:
        path = make_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        config = compose("train", ["fusion=cross", f"seed={seed}", *overrides])
        for key in lacking:
            *parts, last = key.split(".")
            node = config
            for part in parts:
                node = node[part]
            del node[last]
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        return path

    lacking = ("position", "fusion.position", "fusion.shared", "budget")
    before = [run(0, lacking=lacking), run(1, lacking=lacking[:2])]
    assert [len(group.runs) for group in group_runs(collect_runs([*before, run(2)]))] == [3]
    others = [run(3, "fusion.shared=true"), run(4, "position=alibi"), run(5, "position.longest_s=10")]
    groups = group_runs(collect_runs([*before, *others]))
    assert [len(group.runs) for group in groups] == [2, 1, 1, 1], "one that was changed does"
