"""Weights that processes share out: checkpoints of either kind go on with any number of processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import wide
from safetensors.torch import load_file
from torch import Tensor

from mmattn.cli.main import main
from mmattn.errors import MmattnError
from mmattn.training.checkpoints.atomic import BEFORE, LAST, AtomicCheckpointIO, damage, newest_whole

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = ["logger=none", "fusion=cross", "trainer.log_every=1", "data.batch_size=8", "trainer.gradient_clip=100"]
RATE = 2e-3
SHARED = ["trainer.strategy=fsdp", "trainer.devices=2"]


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["train/step/loss"] for line in lines if "train/step/loss" in line]


@pytest.fixture(scope="module")
def alone(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs in one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", *small, *OPTIONS, f"run={run}"]) == 0
    return run


@pytest.fixture(scope="module")
def parts(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in two processes, with parts of checkpoints."""
    run = tmp_path_factory.mktemp("parts") / "run"
    assert main(["train", *small, *OPTIONS, *SHARED, "trainer.checkpoints=sharded", f"run={run}"]) == 0
    return run


@pytest.fixture(scope="module")
def exact(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps in one process, in float64."""
    run = tmp_path_factory.mktemp("exact") / "run"
    with pytest.MonkeyPatch.context() as patched, wide.float64(patched):
        assert main(["train", *small, *OPTIONS, "trainer.max_steps=2", f"run={run}"]) == 0
    return run


@pytest.mark.parametrize("machine", [[], ["trainer.devices=2"], SHARED], ids=["alone", "copies", "shares"])
def test_two_steps_are_those_of_float64(machine: list[str], exact: Path, small: list[str], tmp_path: Path) -> None:
    """Weights go apart where a gradient is hardly anything, for Adam's first steps are as long whatever its size."""
    run = tmp_path / "run"
    assert main(["train", *small, *OPTIONS, *machine, "trainer.max_steps=2", f"run={run}"]) == 0
    one, other = (torch.load(path / LAST, weights_only=True) for path in (exact, run))
    assert losses(run) == pytest.approx(losses(exact), rel=1e-6)
    for moment in ("exp_avg", "exp_avg_sq"):
        expected, found = flat(one, moment), flat(other, moment)
        assert float((found - expected).norm() / expected.norm()) < 2e-5, moment
    weights = [torch.cat([w.double().flatten() for w in end["state_dict"].values()]) for end in (one, other)]
    assert float(((weights[0] - weights[1]).abs() > 0.01 * 2 * RATE).double().mean()) < 3e-3


def flat(checkpoint: dict[str, Any], moment: str) -> Tensor:
    """Of all parameters, in the order of the optimizer's groups."""
    state = checkpoint["optimizer_states"][0]
    keys = [key for group in state["param_groups"] for key in group["params"]]
    return torch.cat([state["state"][key][moment].double().flatten() for key in keys])


def after_one_epoch(run: Path, copy: Path) -> Path:
    """As if the last epoch had not been."""
    shutil.copytree(run, copy)
    last = copy / LAST
    shutil.rmtree(last) if last.is_dir() else last.unlink()
    return copy


def test_each_process_writes_its_part_and_nothing_is_a_pickle(parts: Path) -> None:
    for folder in (parts / LAST, parts / BEFORE):
        names = sorted(path.name for path in folder.iterdir())
        assert len(names) == 3 and sum(name.endswith(".safetensors") for name in names) == 2
        sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
        assert max(sizes) < 0.7 * sum(sizes)
        assert damage(folder) is None
    assert newest_whole(parts) == parts / LAST
    assert not list((parts / LAST).parent.glob(".*"))


def test_parts_put_together_are_the_checkpoint_of_one_process(parts: Path, alone: Path) -> None:
    keeping = AtomicCheckpointIO()
    one, other = keeping.load_checkpoint(alone / LAST), keeping.load_checkpoint(parts / LAST)
    assert one.keys() == other.keys() and one["global_step"] == other["global_step"] == 4
    for name, weight in one["state_dict"].items():
        assert other["state_dict"][name].shape == weight.shape
    states = [checkpoint["optimizer_states"][0] for checkpoint in (one, other)]
    groups = [[group["params"] for group in state["param_groups"]] for state in states]
    assert groups[0] == groups[1]
    for key, values in states[0]["state"].items():
        assert {name: value.shape for name, value in values.items()} == {
            name: value.shape for name, value in states[1]["state"][key].items()
        }
    assert losses(parts) == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.parametrize(
    ("source", "machine", "kept_in_parts"),
    [
        ("parts", ["trainer.devices=1", "trainer.checkpoints=whole"], False),
        ("parts", ["trainer.devices=2"], True),
        ("parts", ["trainer.devices=2", "trainer.strategy=ddp", "trainer.checkpoints=whole"], False),
        pytest.param("parts", ["trainer.devices=4", "trainer.shard=2"], True, marks=pytest.mark.slow),
        ("alone", ["trainer.devices=2", "trainer.strategy=fsdp", "trainer.checkpoints=sharded"], True),
        ("alone", ["trainer.devices=2", "trainer.strategy=fsdp"], False),
    ],
)
def test_it_goes_on_with_other_processes_and_either_kind(
    source: str, machine: list[str], kept_in_parts: bool, alone: Path, parts: Path, tmp_path: Path
) -> None:
    """Adam goes on with its moments, so steps after it cost what they cost the run that went through."""
    run = after_one_epoch({"parts": parts, "alone": alone}[source], tmp_path / "run")
    assert main(["train", f"resume={run}", *machine]) == 0
    assert losses(run) == pytest.approx(losses(alone), abs=1e-4)
    assert (run / LAST).is_dir() == kept_in_parts
    read = AtomicCheckpointIO().load_checkpoint
    ends = [read(end / LAST)["optimizer_states"][0]["state"] for end in (alone, run)]
    for key, values in ends[0].items():
        for name in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(ends[1][key][name], values[name], rtol=0.05, atol=1e-3)
    assert load_file(run / "model.safetensors").keys() == load_file(alone / "model.safetensors").keys()


def test_bfloat16_is_gathered_and_float32_is_kept(alone: Path, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [*SHARED, "trainer.precision=bf16-mixed", "trainer.max_steps=2"]
    assert main(["train", *small, *OPTIONS, *options, f"run={run}"]) == 0
    assert losses(run) == pytest.approx(losses(alone)[:2], rel=0.02) and losses(run)[0] != losses(alone)[0]
    assert {weight.dtype for weight in AtomicCheckpointIO().read(run / LAST)["state_dict"].values()} == {torch.float32}


@pytest.mark.slow
def test_copies_of_shares_train_as_one_process_does(alone: Path, small: list[str], tmp_path: Path) -> None:
    """Two copies of the weights, each shared out between two processes."""
    run = tmp_path / "run"
    options = ["trainer.strategy=fsdp", "trainer.devices=4", "trainer.shard=2", "trainer.checkpoints=sharded"]
    assert main(["train", *small, *OPTIONS, *options, f"run={run}"]) == 0
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)
    assert len(list((run / LAST).glob("*.safetensors"))) >= 2
    assert main(["train", f"resume={run}", "trainer.devices=2", "trainer.shard=0"]) == 0


@pytest.mark.parametrize("fault", ["cut", "bit", "gone", "rest"])
def test_a_damaged_part_gives_way_to_the_checkpoint_before(
    fault: str, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(parts, run)
    part = sorted((run / LAST).glob("*.safetensors"))[1]
    part = run / LAST / "rest.ckpt" if fault == "rest" else part
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    if fault == "gone":
        part.unlink()
    else:
        part.write_bytes(data[: len(data) // 2] if fault == "cut" else data)
    assert newest_whole(run) == run / BEFORE
    assert part.name in capsys.readouterr().err


def test_a_rest_that_holds_a_program_is_refused(parts: Path, tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    run = tmp_path / "run"
    shutil.copytree(parts, run)
    shutil.rmtree(run / BEFORE)
    torch.save({"files": {}, "program": Program()}, run / LAST / "rest.ckpt")
    with pytest.raises(MmattnError, match="damaged, or not a checkpoint"):
        newest_whole(run)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["trainer.checkpoints=sharded"], "trainer.strategy=fsdp"),
        (["trainer.shard=2"], "trainer.strategy=fsdp"),
        ([*SHARED, "trainer.shard=3"], "trainer.shard=3"),
        ([*SHARED, "trainer.checkpoints=parts"], "whole or sharded"),
        (["trainer.precision=64-true"], "bf16-mixed"),
        (["trainer.matmul=low"], "medium"),
        (["trainer.precision=16-mixed", "optim.fused=true"], "optim.fused"),
        (["trainer.precision=16-mixed"], "fp16 is not supported on CPU"),
    ],
)
def test_wrong_settings_are_named(
    wrong: list[str], said: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["train", *small, *OPTIONS, *wrong, f"run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and not (tmp_path / "run").exists()
