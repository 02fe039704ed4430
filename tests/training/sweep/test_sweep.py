"""`mmattn train -m`: which runs there are, that they go on, what is counted, and what `mmattn sweep ls` lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mmattn.cli.main import main
from mmattn.config.compose import Composer, compose
from mmattn.errors import MmattnError, UsageError
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.sweep import grid as sweeping
from mmattn.training.sweep.budget import _closest
from mmattn.training.sweep.multirun import sweep
from mmattn.training.sweep.overrides import with_grid
from mmattn.training.sweep.points import Point, plain_name
from mmattn.training.sweep.work import Work

MINE = ["data=folder", "data.root=.", "sweep=mine"]


def names(overrides: list[str]) -> list[str]:
    return [point.run.name for point in sweeping.plan(overrides)[1]]


def test_a_sweep_has_hydras_grammar_and_a_run_for_each_point() -> None:
    folder, points = sweeping.plan(["fusion=late,cross", "seed=range(0,2)", "visual.widths=[8,8]", "sweep=mine"])
    assert folder == Path("runs/sweeps/mine")
    assert [point.run.name for point in points] == [
        f"fusion={fusion},seed={seed}" for fusion in ("late", "cross") for seed in (0, 1)
    ]
    assert points[1].overrides == ("fusion=late", "seed=1", "visual.widths=[8,8]", f"run={points[1].run}")


def test_points_with_long_names_are_told_apart() -> None:
    assert len(plain_name("ü" * 300).encode()) <= 200
    long = "x" * 300
    found = names([f"data.root={long}a,{long}b", "seed=1,2", "sweep=mine"])
    assert len(set(found)) == 4 and all(len(name.encode()) <= 200 for name in found)


def test_points_whose_names_differ_only_in_characters_of_no_file_name_are_told_apart() -> None:
    points = sweeping.plan(["data.root=a/b,a_b,'a b',c", "sweep=mine"])[1]
    assert [point.swept for point in points] == [(f"data.root={root}",) for root in ("a/b", "a_b", "a b", "c")]
    assert len({point.run for point in points}) == 4
    assert points[3].run.name == "data.root=c" and points[0].run.name.startswith("data.root=a_b-")
    assert [point.overrides[-1] for point in points] == [f"run={point.run}" for point in points]


@pytest.mark.parametrize("name", [".", "..", ".failed", ".lease"])
def test_a_sweeps_folder_is_below_that_of_the_sweeps(name: str) -> None:
    folder, _ = sweeping.plan(["seed=1,2", f"sweep={name}"])
    assert folder.parent == Path("runs/sweeps") and not folder.name.startswith(".")


def test_a_fusion_without_attention_is_there_once() -> None:
    found = names(["seed=0,1", "fusion=late,recurrent", "attention=dense,time_window"])
    late = [f"fusion=late,attention={attention}" for attention in ("dense", "time_window")]
    assert found == [f"seed={seed},{pair}" for seed in (0, 1) for pair in (*late, "fusion=recurrent")]
    for point in sweeping.plan(["fusion=late,recurrent", "attention=dense,time_window"])[1]:
        compose("train", point.overrides)


@pytest.mark.parametrize("wrong", [["fusion=late"], ["seed=1,2", "run=x"], ["optim.lr=interval(0,1)"], ["seed=1,1"]])
def test_what_is_no_sweep_is_said(wrong: list[str]) -> None:
    with pytest.raises(UsageError, match=r"train -m|range"):
        sweeping.plan(wrong)


def test_a_sweep_of_too_many_points_is_refused_and_never_cut(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "-m", "data=folder", "data.root=.", "seed=range(0,101)", "heads=range(1,102)"]) == 2
    assert "10,201 points" in capsys.readouterr().err


def test_of_ten_thousand_points_each_value_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 fusions, 5 attentions, 20 rates and 20 seeds."""
    overrides = ["data=folder", "data.root=.", "fusion=late,cross,concat,gated,film"]
    overrides += ["attention=dense,linear,sliding,cosine,lsh", "optim.lr=range(1,21)", "seed=range(0,20)"]
    composed: list[tuple[str, ...]] = []
    composer = Composer("train")
    plain = composer.compose
    monkeypatch.setattr(composer, "compose", lambda given: composed.append(tuple(given)) or plain(given))
    points = sweeping.plan(overrides)[1]
    assert len(points) == 10_000
    sweeping.check_points(points, composer)
    assert len(composed) <= 5 + 5 + 20 + 20 and composer.loaded <= 5 + 5
    before = composer.loaded
    for point in points[:400]:
        plain(point.overrides)
    assert composer.loaded == before, "files are read for other choices only"


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"values": {}}, "lists of values"),
        ({"values": {"fusion": "late"}}, "lists of values"),
        ({"values": {"fusion": ["late", "late"]}}, "listed twice"),
        ({"values": {f"k{i}": list(range(10)) for i in range(5)}}, "100,000 points"),
        ({"values": {"seed": [0, 1]}, "overrides": "x=1"}, "list of key=value"),
        ({"values": {"seed": [0, 1]}, "more": 1}, "more is not a key"),
        ({"values": {"seed": [0, 1]}, "overrides": ["sweep.evaluate=all"]}, "expected train, val or test"),
        ({"values": {"sede": [0, 1]}}, "seed"),
        ([], "not a grid"),
    ],
)
def test_a_wrong_grid_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: dict, says: str, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    assert main(["train", "-m", "grid=grid.yaml", "data=folder", "data.root=."]) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1 and not Path("runs").exists()


def test_a_grid_is_a_config_and_what_is_typed_goes_before() -> None:
    assert len(sweeping.plan(["grid=fusion_by_attention"])[1]) == 8 * 6 * 3
    folder, points = sweeping.plan(["grid=fusion_by_attention_small", "seed=7", "trainer.epochs=1"])
    assert folder == Path("runs/sweeps/fusion_by_attention_small") and len(points) == 4 * 3
    config = compose("train", points[-1].overrides)
    assert (config["seed"], config["trainer"]["epochs"]) == (7, 1)
    assert "sweep.evaluate=test" in with_grid(["grid=fusion_by_attention_small"])
    with pytest.raises(UsageError, match="fusion_by_attention"):
        sweeping.plan(["grid=fusion_by"])


def test_a_grid_may_try_a_group_and_its_absence_and_any_value(tmp_path: Path) -> None:
    values = {"regulariser": [None, "entropy"], "visual.widths": [[8, 8], [16]], "data.root": ["a, b", "it's"]}
    (tmp_path / "g.yaml").write_text(yaml.safe_dump({"values": values}, sort_keys=False))
    points = sweeping.plan([f"grid={tmp_path / 'g.yaml'}", "data=folder"])[1]
    configs = [compose("train", point.overrides) for point in points]
    assert len({point.run for point in points}) == 8
    assert [bool(config.get("regulariser")) for config in configs] == [False] * 4 + [True] * 4
    assert configs[0]["visual"]["widths"] == [8, 8] and configs[2]["visual"]["widths"] == [16]
    assert [config["data"]["root"] for config in configs[:2]] == ["a, b", "it's"]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, bool]]:
    """What a sweep would train, done at once, as (seed, gone on with); seed 1 fails among the first three."""
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[int, bool]] = []

    def train(_: Work, point: Point, config: dict) -> None:
        seen.append((config["seed"], point.begun))
        point.run.mkdir(parents=True, exist_ok=True)
        (point.run / "config.yaml").write_text("x: 1")
        if config["seed"] == 1 and len(seen) < 4:
            raise MmattnError("the disk is full")
        (point.run / "finished.json").write_text("{}")

    monkeypatch.setattr(Work, "train", train)
    return seen


def test_a_sweep_goes_on_where_it_stopped(trained: list, capsys: pytest.CaptureFixture) -> None:
    command = ["train", "-m", *MINE, "seed=0,1,2"]
    assert main(command) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert trained == [(0, False), (1, False), (2, False)], "the others are trained"
    assert main(["sweep", "ls", "runs/sweeps/mine"]) == 2, "nothing was evaluated"
    assert main(command) == 0 and trained[3:] == [(1, True)]
    assert len(json.loads(Path("runs/sweeps/mine/sweep.json").read_text())) == 3
    assert main([*command, "optim.lr=1"]) == 2, "another sweep of that name"
    assert main(["train", "-m", *MINE, "seed=0,1,2,3"]) == 0
    assert trained[4:] == [(3, False)], "a point more"
    assert main(["train", "-m", *MINE, "search=optuna", "dropout=interval(0,1)"]) == 2, "no search"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (RuntimeError("no memory"), 1)])
def test_the_exit_code_says_how_it_ended(
    error: BaseException, code: int, trained: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*_: object) -> None:
        trained.append(None)
        raise error

    monkeypatch.setattr(Work, "train", fail)
    assert main(["train", "-m", *MINE, "seed=0,1"]) == code
    assert len(trained) == (1 if code == 130 else 2)
    assert code == 130 or "2 of 2 runs failed" in capsys.readouterr().err


def test_one_process_works_in_a_sweep(trained: list, capsys: pytest.CaptureFixture) -> None:
    with exclusive(Path("runs/sweeps/mine")):
        assert main(["train", "-m", *MINE, "seed=0,1"]) == 2
    assert "another process" in capsys.readouterr().err and not trained


def test_a_typo_in_the_last_value_shows_before_the_first_run(trained: list) -> None:
    with pytest.raises(UsageError, match="number"):
        sweep([*MINE, "seed=0,2", "optim.lr=0.1,fast"])
    assert not trained and not Path("runs").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["budget=money"], "params or flops"),
        (["budget=params", "dim=16,32"], "leave dim out"),
        (["budget=params", "search=optuna"], "leave one of them out"),
    ],
)
def test_a_budget_that_cannot_be_held_is_said(wrong: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        sweep([*MINE, "seed=0,1", *wrong])


def test_a_budget_is_for_many_runs(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "data=folder", "data.root=.", "budget=params"]) == 2
    assert "mmattn train -m budget=" in capsys.readouterr().err


@pytest.mark.parametrize("target", [1, 700, 4_000, 5_000, 1_000_000])
def test_the_closest_width_is_found(target: int) -> None:
    """Against trying them all."""

    def size(dim: int) -> int:
        return 7 * dim * dim + 30 * dim

    every = range(8, 4000, 8)
    assert size(_closest(size, target, 16, 4)) == min(map(size, every), key=lambda each: abs(each - target))
    assert _closest(size, size(10), 10, 4) == 10, "the first row keeps its own"
