"""`train -m search=optuna`: each trial a run, gone on with after a stop, its best kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.sweep import search as searching
from mmattn.training.sweep import trials
from mmattn.training.sweep.multirun import sweep
from mmattn.training.sweep.points import Point
from mmattn.training.sweep.space import distribution, parsed_sweep
from mmattn.training.sweep.work import Work

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
COMMAND = ["train", "-m", "search=optuna", "data=folder", "data.root=.", "sweep=mine"]
SPACE = ["optim.lr=tag(log,interval(1e-4,1e-1))", "fusion=late,cross", "trainer.epochs=range(2,9,3)"]


def test_hydras_grammar_is_optunas_space() -> None:
    config = compose("train")
    expected = {
        "fusion=late,cross": optuna.distributions.CategoricalDistribution(("late", "cross")),
        "dropout=interval(0,0.5)": optuna.distributions.FloatDistribution(0, 0.5),
        "optim.lr=tag(log, interval(1e-4, 1e-2))": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "optim.warmup=range(0.1,0.5,0.1)": optuna.distributions.FloatDistribution(0.1, 0.4, step=0.1),
        "trainer.epochs=range(2,9,3)": optuna.distributions.IntDistribution(2, 8, step=3),
        "data.batch_size=tag(log,interval(4,64))": optuna.distributions.IntDistribution(4, 64, log=True),
    }
    for text, wanted in expected.items():
        grid = parsed_sweep(text)
        assert grid and distribution(grid, config) == wanted, text
    assert parsed_sweep("fusion=late") is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["fusion=late"], "nothing to search"),
        (["optim.lr=interval(1,0)"], "low,high"),
        (["optim.lr=tag(log,interval(0,1))"], "above 0"),
        (["optim.lrr=interval(0,1)"], "optim.lr"),
        (["fusion=late,late"], "twice"),
        (["fusion=late,crosss"], "crosss"),
        (["fusion=late,cross", "+search.space.fusion='late,cross'"], "twice"),
        (["+search.space.fusion=late"], "one value"),
        (["fusion=late,cross", "search.direction=up"], "maximize"),
        (["fusion=late,cross", "search.trials=0"], "trials"),
        (["fusion=late,cross", "pretrain=mae"], "pretrain"),
        (["fusion=late,cross", "launcher=slurm"], "slurm"),
        (["fusion=late,cross", "run=x"], "sweep=NAME"),
    ],
)
def test_what_cannot_be_searched_is_said(wrong: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        searching.plan(["search=optuna", "data=folder", "data.root=.", *wrong])


def test_search_without_m_is_said(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "search=optuna", "data=folder", "data.root=."]) == 2
    assert "train -m search=optuna" in capsys.readouterr().err


class Trained:
    """Stands in for training: mAP is best at a rate of 0.01; what is asked for may fail or stop first."""

    def __init__(self) -> None:
        self.configs: list[dict] = []
        self.before: dict[int, Exception] = {}  # what the n-th start raises

    def __call__(self, _: Work, point: Point, config: dict) -> None:
        number = len(self.configs)
        self.configs.append({**config, "resume": str(point.run) if point.begun else None})
        run = point.run
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text("x: 1")
        if number in self.before:
            raise self.before[number]
        (run / "evaluation.json").write_text(json.dumps({"rate": config["optim"]["lr"]}))
        (run / "finished.json").write_text("{}")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    monkeypatch.chdir(tmp_path)
    stand_in = Trained()
    monkeypatch.setattr(Work, "train", lambda *given: stand_in(*given))
    monkeypatch.setattr(trials, "curves", lambda found: {"val/mAP": 1 - abs(math.log10(found["rate"]) + 2)})
    return stand_in


def _rates(trained: Trained) -> list[float]:
    return [config["optim"]["lr"] for config in trained.configs]


def test_a_search_stopped_goes_on_with_that_trial_and_asks_for_the_same_ones_as_a_whole_one(
    trained: Trained, capsys: pytest.CaptureFixture
) -> None:
    more = ["search.trials=6", "search.warmup=2", *SPACE]
    assert main([*COMMAND[:-1], "sweep=whole", *more]) == 0
    whole = _rates(trained)
    assert len(set(whole)) == 6
    trained.configs.clear()
    trained.before[3] = Stopped("stopped")
    with pytest.raises(Stopped):
        sweep([*COMMAND[2:], *more])
    assert main([*COMMAND, *more]) == 0
    stopped, resumed = trained.configs[3:5]
    assert resumed["resume"] == stopped["run"] and not stopped["resume"]
    assert _rates(trained)[:4] + _rates(trained)[5:] == whole
    capsys.readouterr()
    assert main([*COMMAND, *more]) == 0 and len(trained.configs) == 7, "nothing is trained twice"
    table = capsys.readouterr().out.splitlines()
    values = [float(line.split()[0]) for line in table[1:-1]]
    assert values == sorted(values, reverse=True) and len(values) == 6 and table[-1] == "runs/sweeps/mine"
    best = yaml.safe_load(Path("runs/sweeps/mine/best.yaml").read_text())
    assert best["val/mAP"] == pytest.approx(values[0], abs=1e-4) and Path(best["run"]).name in table[1]
    assert compose("train", ["data=folder", "data.root=.", *best["overrides"]])["optim"]["lr"] in whole


def test_more_trials_may_be_asked_for_but_nothing_else(trained: Trained, capsys: pytest.CaptureFixture) -> None:
    assert main([*COMMAND, "search.trials=2", *SPACE]) == 0
    assert main([*COMMAND, "search.trials=3", *SPACE]) == 0
    assert len(trained.configs) == 3
    assert main([*COMMAND, "search.trials=3", *SPACE, "dim=32"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_trial_that_fails_counts_and_stops_nothing(trained: Trained, capsys: pytest.CaptureFixture) -> None:
    trained.before[1] = MmattnError("the gradient is not finite")
    assert main([*COMMAND, "search.trials=3", *SPACE]) == 1
    said = capsys.readouterr()
    assert "the gradient is not finite" in said.err and said.out.count("failed") == 1
    assert "1 of 3 runs failed" in said.err and len(trained.configs) == 3
    assert main(["sweep", "ls", "runs/sweeps/mine"]) == 2, "its evaluations are not of this test"
    assert main([*COMMAND, "search.trials=3", *SPACE]) == 0, "tried again"
    assert len(trained.configs) == 4 and trained.configs[3]["resume"] == trained.configs[1]["run"]
    assert "failed" not in capsys.readouterr().out
    assert main([*COMMAND, "search.trials=3", *SPACE]) == 0 and len(trained.configs) == 4
    trained.before |= {number: MmattnError("no disk") for number in range(4, 9)}
    assert main([*COMMAND[:-1], "sweep=other", "search.trials=2", *SPACE]) == 1
    assert "2 of 2 runs failed" in capsys.readouterr().err


def test_whole_numbers_and_choices_reach_the_runs(trained: Trained) -> None:
    assert main([*COMMAND, "search.trials=8", "search.sampler=random", *SPACE]) == 0
    assert {config["trainer"]["epochs"] for config in trained.configs} <= {2, 5, 8}
    assert len({config["fusion"]["_target_"] for config in trained.configs}) == 2
    assert not any(config.get("search") for config in trained.configs), "a trial is a plain run"


def test_the_space_may_come_from_the_config(trained: Trained) -> None:
    space = "+search.space.optim.lr='tag(log,interval(1e-4,1e-1))'"
    assert main([*COMMAND, "search.trials=2", space]) == 0
    assert len(set(_rates(trained))) == 2 and all(1e-4 <= rate <= 1e-1 for rate in _rates(trained))


def test_two_searches_do_not_share_a_folder_and_a_dry_run_only_tells(
    trained: Trained, capsys: pytest.CaptureFixture
) -> None:
    assert main([*COMMAND, "--dry-run", *SPACE]) == 0
    assert SPACE[0] in capsys.readouterr().out and not Path("runs").exists()
    with exclusive(Path("runs/sweeps/mine")):
        assert main([*COMMAND, "search.trials=1", *SPACE]) == 2
    assert "another process" in capsys.readouterr().err and not trained.configs


def test_an_unknown_metric_is_said_with_those_there_are(trained: Trained, capsys: pytest.CaptureFixture) -> None:
    assert main([*COMMAND, "search.trials=1", "search.metric=val/map", *SPACE]) == 2
    assert "val/mAP" in capsys.readouterr().err
