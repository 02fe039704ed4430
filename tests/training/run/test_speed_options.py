"""Options of how, not what, is computed: the same gradients; and rates by layer, sweeps, the look ahead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.errors import UsageError
from mmattn.process.memory import peak_memory
from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.adamw import AdamWOneCycle, depths, optim_of
from mmattn.training.run.dry_run import first, look_ahead
from mmattn.training.sharding.blocks import blocks, compile_parts, recompute
from mmattn.types import Batch


def _module(model: nn.Module) -> TrainingModule:
    return TrainingModule(model, AdamWOneCycle(lr=1e-3, weight_decay=0.1, warmup=0.0))  # type: ignore[arg-type]


def _gradients(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(5)  # of dropout
    _module(model).losses(batch)["loss"].backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("fusion", ["cross", "bottleneck", "perceiver", "late"])
def test_blocks_that_run_again_give_the_same_gradients_with_less_kept(
    fusion: str, tiny_model: Callable, make_batch: Callable
) -> None:
    model, batch = tiny_model(f"fusion={fusion}", "dropout=0.2").train(), make_batch(8, frames=8, rows=96)
    assert len(blocks(model)) >= 4
    names, plain = set(model.state_dict()), _gradients(model, batch)
    kept = peak_memory(lambda: _module(model).losses(batch))
    recompute(model)
    again = _gradients(model, batch)
    assert plain.keys() == again.keys() and set(model.state_dict()) == names
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
    assert peak_memory(lambda: _module(model).losses(batch)) < 0.8 * kept


def test_compiling_keeps_names_and_calls_every_part(tiny_model: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    model, compiled = tiny_model("fusion=cross"), []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append((self, options)))
    names = set(model.state_dict())
    compile_parts(model)
    parts = [(model.visual, {}), (model.audio, {}), (model.task, {}), (model.fusion, {"fullgraph": True})]
    assert compiled == parts and set(model.state_dict()) == names


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo's own look
def test_a_compiled_model_says_the_same(tiny_model: Callable, make_batch: Callable) -> None:
    model, batch = tiny_model("fusion=cross"), make_batch(2)
    plain = _gradients(model, batch)
    compile_parts(model)
    for name, gradient in _gradients(model, batch).items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-3, atol=1e-5, msg=name)


def test_accumulated_batches_make_the_gradient_of_the_larger_one(tiny_model: Callable, make_batch: Callable) -> None:
    model, batch = tiny_model("fusion=cross"), make_batch(4)
    whole = _gradients(model, batch)
    for half in (first(batch, 2), _last(batch, 2)):
        (_module(model).losses(half)["loss"] / 2).backward()  # as Lightning does
    for name, weight in model.named_parameters():
        if name in whole:
            torch.testing.assert_close(weight.grad, whole[name], rtol=1e-4, atol=1e-6, msg=name)


def _last(batch: Batch, count: int) -> Batch:
    order = torch.arange(len(batch)).flip(0)
    given = {f.name: getattr(batch, f.name) for f in fields(batch) if f.init}
    turned = {name: value[order] if isinstance(value, Tensor) else value for name, value in given.items()}
    turned["targets"] = {"tags": batch.targets["tags"][order]}
    turned["ids"] = batch.ids[::-1]
    return first(Batch(**turned), count)


def test_rates_fall_by_layer_from_an_encoders_output(tiny_model: Callable) -> None:
    model = tiny_model("fusion=late", "visual=vit")
    optimizer, _ = AdamWOneCycle(lr=1.0, weight_decay=0.1, warmup=0.0, encoder_lr=0.5, layer_decay=0.8).build(model, 10)
    rate = {id(w): group["initial_lr"] for group in optimizer.param_groups for w in group["params"]}
    places = dict(depths(model.visual))
    for name, weight in model.visual.named_parameters():
        depth = places[weight]
        assert rate[id(weight)] == pytest.approx(0.5 * 0.8**depth)
        if "encoder_layer_0" in name:
            assert depth == 2, name
        elif "encoder_layer_1" in name:
            assert depth == 1, name
        elif "conv_proj" in name:
            assert depth == 3, name
        elif ".ln." in name or "project" in name:
            assert depth == 0, name
    assert {rate[id(w)] for w in model.task.parameters()} == {1.0}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_step_in_one_kernel_is_the_same_step(tiny_model: Callable, make_batch: Callable) -> None:
    ends = []
    for fused in (None, True):
        model, batch = tiny_model("fusion=cross"), make_batch(2)
        optim = AdamWOneCycle(lr=1e-3, weight_decay=0.1, warmup=0.0, fused=fused)
        optimizer, _ = optim.build(model, 4)
        assert all(group["fused"] == fused for group in optimizer.param_groups), "on a processor it has to be asked for"
        for _ in range(2):
            optimizer.zero_grad()
            _module(model).losses(batch)["loss"].backward()
            optimizer.step()
        ends.append(model.state_dict())
    for name, weight in ends[0].items():
        torch.testing.assert_close(ends[1][name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_all_tensors_of_a_batch_are_pinned(make_batch: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's loader asks for; here is no device to pin them for."""
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = make_batch(2)
    again = batch.pin_memory()
    tensors = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    assert len(pinned) == len(tensors) + 1 and again.ids == batch.ids and again.captions == batch.captions


@pytest.mark.parametrize("mode", ["finetune", "lora", "frozen"])
def test_ready_made_weights_are_fine_tuned_at_a_rate_of_their_own(
    mode: str, tiny_config: Callable, tiny_model: Callable
) -> None:
    config = tiny_config("fusion=late", "visual=clip", f"visual.mode={mode}", "visual.pretrained=weights/clip")
    model = tiny_model("fusion=late", "visual=clip", f"visual.mode={mode}")
    optimizer, _ = optim_of(config).build(model, 10)
    rate = {id(w): group["initial_lr"] for group in optimizer.param_groups for w in group["params"]}
    tuned = {round(math.log(rate[id(w)] / 3e-5, 0.75), 3) for w in model.visual.backbone.parameters()}
    assert tuned == {0, 1, 2, 3} if mode == "finetune" else len(tuned) == 1
    new = [*model.visual.project.parameters(), *model.audio.parameters(), *model.fusion.parameters()]
    assert {rate[id(w)] for w in new} == {2e-3}


def test_a_given_rate_of_encoders_goes_first(tiny_config: Callable, tiny_model: Callable) -> None:
    config = tiny_config("fusion=late", "visual=clip", "visual.pretrained=weights/clip", "optim.encoder_lr=0.1")
    optimizer, _ = optim_of(config).build(tiny_model("fusion=late", "visual=clip"), 10)
    video = {group["initial_lr"] for group in optimizer.param_groups if group["part"] == "video"}
    assert len(video) == 1 and video.pop() == pytest.approx(2e-4)


def test_a_wrong_decay_is_named() -> None:
    with pytest.raises(UsageError, match="layer_decay"):
        AdamWOneCycle(lr=1.0, weight_decay=0.1, warmup=0.0, layer_decay=1.5)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from mmattn.data.avshapes import make_avshapes

    root = tmp_path_factory.mktemp("avshapes")
    make_avshapes(root, 24, 0, workers=1)
    data = ["data=avshapes", f"data.root={root}", "data.clips=24", "data.source.workers=1", "data.isolated=false"]
    return [*data, "logger=none", "trainer.accelerator=cpu", "trainer.threads=1", "dim=16", "heads=2"]


@pytest.mark.parametrize("size", [["fusion=late", "data.batch_size=12"], ["fusion=cross", "dim=96", "heads=4"]])
def test_the_memory_of_a_step_is_foreseen_within_a_fifth(size: list[str], tagged: list[str]) -> None:
    """Against a whole step of the whole batch with its optimizer, by the allocator's own account."""
    from mmattn.data.build import build_data
    from mmattn.model import build_model

    config = compose("train", [*tagged, "data.batch_size=16", "dropout=0.1", *size])
    data = build_data(config["data"])
    batch = next(iter(data.loader(data.dataset("train", train=True), train=True)))

    def two_steps() -> None:
        model = build_model(config, data.vocabulary).train()
        module = _module(model)
        optimizer, _ = module.optim.build(model, 2)
        for _ in range(2):
            loss = module.losses(batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    measured = peak_memory(two_steps)
    found = look_ahead(config, data, build_model(config, data.vocabulary))
    assert found.memory == pytest.approx(measured, rel=0.2)
    assert found.tokens == {"video": 96, "audio": 75} and found.clips == config["data"]["batch_size"]


def test_a_look_ahead_tells_all_and_writes_nothing(
    tagged: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    slurm = ["launcher=slurm", "launcher.nodes=2", "trainer.devices=4", "data.batch_size=16"]
    assert main(["train", *tagged, *slurm, "dry_run=true", f"run={tmp_path / 'run'}"]) == 0
    out = capsys.readouterr().out
    for word in ("parameters:", "tokens of a clip: video 96, audio 75", "GFLOP", "MiB", "#SBATCH --nodes=2", "srun"):
        assert word in out
    assert "clips: 2 in each process, 16 in a batch" in out and not (tmp_path / "run").exists()


def test_operations_are_those_of_the_step(tagged: list[str]) -> None:
    """Twice the clips, twice the operations; accumulated batches, as many times more."""
    from mmattn.data.build import build_data
    from mmattn.model import build_model

    found = []
    for more in (["data.batch_size=4"], ["data.batch_size=8", "trainer.accumulate=3"]):
        config = compose("train", [*tagged, *more])
        data = build_data(config["data"])
        found.append(look_ahead(config, data, build_model(config, data.vocabulary)).flops)
    assert found[1] == pytest.approx(6 * found[0]) and found[0] > 0


def test_with_slurm_a_sweep_is_one_array(
    tagged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 7\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main(["train", "-m", *tagged, "fusion=late,concat", "launcher=slurm", "sweep=mine"]) == 0
    assert "array 7 of 2 runs" in capsys.readouterr().err
    (points,) = Path("runs/sweeps/mine").glob("points-*.txt")
    job = Path("runs/sweeps/mine", points.stem.replace("points", "job") + ".sh").read_text()
    assert "#SBATCH --array=0-1%8" in job and points.name in job
    runs = [Path(line) for line in points.read_text().splitlines()]
    assert [run.name for run in runs] == ["fusion=late", "fusion=concat"]
    assert all((run / "config.yaml").is_file() for run in runs)
