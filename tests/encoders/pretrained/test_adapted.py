"""Every ready-made encoder of conf/: shapes, true times, padding that never leaks, missing modalities, modes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmattn.checkpoint import Checkpoint, load_model, save_model
from mmattn.config.compose import build, group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import ClipSpec
from mmattn.encoders.interface import Encoder
from mmattn.errors import UsageError
from mmattn.model import build_model
from mmattn.types import Batch

BUILT_IN = ("tiny", "conv3d", "lips", "spectrogram", "speech", "none")  # see test_encoders.py
CHOICES = [f"{group}={name}" for group in ("visual", "audio") for name in group_choices(group) if name not in BUILT_IN]
WITHOUT_LINEAR = ("visual=resnet", "visual=r2plus1d", "visual=efficientnet_lite0", "audio=yamnet")
WITH_PLACES = [name for name in CHOICES if name.startswith("visual") and name != "visual=pe_video"]
MIXING = ("visual=pe_video", "audio=pe_audio")  # normalised over time, so everything depends a little on everything
CLIPS, FRAMES, ROWS = 3, 9, 64
STEP_S = {  # from one token to the next; frames are 1/8 s apart
    **{name: 1 / 8 for name in CHOICES if name.startswith("visual")},
    **{"visual=swin3d": 2 / 8, "visual=mvit": 2 / 8, "visual=videomae": 2 / 8, "visual=r2plus1d": 8 / 8},
    **{"audio=ast": 0.1, "audio=whisper": 0.02, "audio=clap": 0.078, "audio=wav2vec2": 0.02, "audio=torchaudio": 0.02},
    **{"audio=pe_audio": 0.04, "audio=yamnet": 0.48},
}


@pytest.fixture(params=CHOICES)
def choice(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(tiny_config: Callable) -> Callable[..., Encoder]:
    """`make("visual=clip", "visual.mode=lora")`, always with the same weights, in eval mode."""

    def make_one(choice: str, *settings: str) -> Encoder:
        torch.manual_seed(2)
        return build(tiny_config(choice, *settings)[choice.partition("=")[0]]).eval()

    return make_one


@pytest.fixture
def batches(tiny_config: Callable, make_batch: Callable) -> Callable[..., Batch]:
    """`batches(choice, lengths=...)`: clips at the sample rate of the choice."""

    def make_one(choice: str, clips: int = CLIPS, frames: int = FRAMES, rows: int = ROWS, **options) -> Batch:
        return make_batch(clips, frames, rows, rate=tiny_config(choice)["data"]["clip"]["sample_rate"], **options)

    return make_one


def _modality(choice: str) -> str:
    return "video" if choice.startswith("visual") else "audio"


def _clips(batch: Batch, which: slice) -> Batch:
    tensors = {name: value[which] for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return Batch(**tensors, ids=batch.ids[which], sample_rate=batch.sample_rate)


def _padded(batch: Batch, frames: int, rows: int) -> Batch:
    """More padding behind, filled with what would be noticed."""
    assert batch.waveform is not None
    samples = rows * batch.sample_rate // 100
    more = {
        "frames": (frames, 255),
        "frame_keep": (frames, False),
        "frame_times": (frames, 99.0),
        "waveform": (samples, 0.9),
        "waveform_keep": (samples, False),
    }
    tensors = {}
    for name, (count, value) in more.items():
        tensor = getattr(batch, name)
        tensors[name] = torch.cat([tensor, tensor.new_full((len(batch), count, *tensor.shape[2:]), value)], dim=1)
    return replace(batch, **tensors)


def _touch(encoder: Encoder, tokens: Tensor) -> None:
    """Gradients of something that every token has a part in."""
    (tokens * torch.randn_like(tokens)).sum().backward()


def test_tokens_are_of_the_clips_time_and_gradients_reach_what_is_trained(
    choice: str, make: Callable, batches: Callable
) -> None:
    encoder, batch = make(choice), batches(choice)
    tokens = encoder(batch)
    assert tokens.values.shape == (*tokens.keep.shape, encoder.dim)
    assert tokens.values.shape[0] == CLIPS and tokens.values.isfinite().all()
    assert tokens.keep.dtype == torch.bool and tokens.present.all()
    times = tokens.times[0][tokens.keep[0]]
    assert (times.diff() >= 0).all()
    end = FRAMES / 8 if _modality(choice) == "video" else ROWS / 100
    assert 0 <= times.min() <= STEP_S[choice] + 0.1
    assert end - 1.1 * STEP_S[choice] - 0.05 <= times.max() <= (end if choice != "audio=yamnet" else 0.5)
    steps = times.unique().diff()
    assert not len(steps) or float(steps.max()) == pytest.approx(STEP_S[choice], rel=0.01)
    _touch(encoder, tokens.values)
    trained = {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}
    assert all(grad is not None for grad in trained.values())
    still = [name for name, grad in trained.items() if grad is not None and grad.abs().max() < 1e-9]
    assert not [name for name in still if not name.endswith((".k_proj.bias", ".key.bias", ".qkv.bias"))]


def test_what_is_not_real_changes_nothing(choice: str, make: Callable, batches: Callable) -> None:
    """Neither what padding holds, nor how much of it there is, nor the other clips of the batch."""
    encoder, lengths = make(choice), [1.0, 0.6, 0.3]
    batch, other = batches(choice, lengths=lengths), batches(choice, lengths=lengths, seed=5)
    with torch.no_grad():
        together = encoder(batch)
        assert together.keep.sum(dim=1).tolist() == sorted(together.keep.sum(dim=1).tolist(), reverse=True)
        frames = torch.where(batch.frame_keep[..., None, None, None], batch.frames, other.frames)
        waveform = torch.where(batch.waveform_keep, batch.waveform, other.waveform)
        refilled = encoder(replace(batch, frames=frames, waveform=waveform))
        longer = encoder(_padded(batch, 7, 40))
        torch.testing.assert_close(refilled.values, together.values, rtol=0, atol=1e-6)
        for clip in range(CLIPS):
            real, more = together.keep[clip], longer.keep[clip]
            alone = encoder(_clips(batch, slice(clip, clip + 1)))
            torch.testing.assert_close(alone.values[0], together.values[clip], rtol=0, atol=1e-4)
            torch.testing.assert_close(longer.values[clip][more], together.values[clip][real], rtol=0, atol=1e-4)
            torch.testing.assert_close(longer.times[clip][more], together.times[clip][real])


@pytest.mark.parametrize("missing", [[1], [0, 1, 2]], ids=["one", "all"])
def test_a_missing_modality_has_no_tokens_and_every_parameter_a_gradient(
    choice: str, missing: list[int], make: Callable, batches: Callable
) -> None:
    encoder = make(choice).train()
    tokens = encoder(batches(choice, missing={clip: _modality(choice) for clip in missing}))
    assert tokens.present.tolist() == [clip not in missing for clip in range(CLIPS)]
    assert not tokens.values[missing].any() and tokens.values.isfinite().all()
    _touch(encoder, tokens.values)
    grads = [p.grad for p in encoder.parameters() if p.requires_grad]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_a_token_depends_most_on_what_there_is_at_its_time(choice: str, make: Callable, batches: Callable) -> None:
    """Its time is the median of what its gradient says it reads."""
    if choice in MIXING:
        return
    encoder, batch = make(choice), batches(choice, clips=1, frames=16, rows=200)
    if _modality(choice) == "video":
        pixels = batch.frames.float().requires_grad_()
        tokens = encoder(replace(batch, frames=pixels))
        at, given = batch.frame_times[0], pixels
    else:
        given = batch.waveform.clone().requires_grad_()
        tokens = encoder(replace(batch, waveform=given))
        at = (torch.arange(given.shape[1]) + 0.5) / batch.sample_rate
    real = [int(i) for i in tokens.keep[0].nonzero()[:, 0]]
    for index in real[:: max(1, len(real) // 5)]:
        (gradient,) = torch.autograd.grad(tokens.values[0, index].square().sum(), given, retain_graph=True)
        energy = gradient[0].flatten(1).square().sum(dim=1) if gradient.ndim > 2 else gradient[0].square()
        share = (energy / energy.sum()).cumsum(dim=0)
        median = float(at[int((share < 0.5).sum())])
        assert median == pytest.approx(float(tokens.times[0, index]), abs=0.55 * STEP_S[choice] + 0.02)


@pytest.mark.parametrize("choice", MIXING)
def test_what_changes_at_a_time_changes_the_tokens_around_that_time(
    choice: str, make: Callable, batches: Callable
) -> None:
    encoder, batch = make(choice), batches(choice, clips=1, frames=16, rows=200)
    assert batch.waveform is not None
    misses = []
    with torch.no_grad():
        before = encoder(batch)
        for time in (0.3, 0.6, 0.9, 1.2, 1.5):
            frames, waveform = batch.frames.clone(), batch.waveform.clone()
            frame, sample = round(time * 8 - 0.5), round(time * batch.sample_rate)
            frames[:, frame] = 255 - frames[:, frame]
            waveform[:, sample - 500 : sample + 500] *= -1
            moved = (encoder(replace(batch, frames=frames, waveform=waveform)).values - before.values).abs().sum(dim=2)
            energy = moved[0].square()
            changed = float(batch.frame_times[0, frame]) if _modality(choice) == "video" else time
            misses.append(float((energy * before.times[0]).sum() / energy.sum()) - changed)
    assert abs(sum(misses) / len(misses)) < 0.75 * STEP_S[choice], misses


def test_frozen_trains_nothing_but_the_projection(choice: str, make: Callable, batches: Callable) -> None:
    encoder = make(choice, f"{choice.partition('=')[0]}.mode=frozen").train()
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    _touch(encoder, encoder(batches(choice)).values)
    assert {name.partition(".")[0] for name, p in encoder.named_parameters() if p.grad is not None} == {"project"}
    assert not any(module.training for module in encoder.backbone.net.modules())
    assert all(torch.equal(before[name], value) for name, value in encoder.backbone.state_dict().items())


def test_lora_trains_adapters_alone_and_begins_as_the_network_was(
    choice: str, make: Callable, batches: Callable
) -> None:
    group, batch = choice.partition("=")[0], batches(choice)
    if choice in WITHOUT_LINEAR:
        with pytest.raises(UsageError, match="no linear layers; use mode=finetune or mode=frozen"):
            make(choice, f"{group}.mode=lora")
        return
    encoder = make(choice, f"{group}.mode=lora").train()
    plain = make(choice, f"{group}.mode=frozen")
    encoder.project.load_state_dict(plain.project.state_dict())
    tokens = encoder(batch)
    torch.testing.assert_close(tokens.values, plain(batch).values, rtol=0, atol=1e-5)  # and nothing drops out
    _touch(encoder, tokens.values)
    trained = {name: p.grad for name, p in encoder.backbone.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    idle = [n for n, grad in trained.items() if "lora_B" in n and (grad is None or grad.abs().max() < 1e-12)]
    assert not idle, "an adapter that is never reached"


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_a_saved_model_comes_back_whole(
    choice: str,
    mode: str,
    tiny_config: Callable,
    vocabulary: TagVocabulary,
    batches: Callable,
    tmp_path: Path,
) -> None:
    if mode == "lora" and choice in WITHOUT_LINEAR:
        return
    config = tiny_config(choice, f"{choice.partition('=')[0]}.mode={mode}", "fusion=late")
    model, batch = build_model(config, vocabulary), batches(choice)
    if mode == "lora":
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, std=0.1) if "lora_" in name else None
    model(batch)  # batch statistics move
    spec = ClipSpec(**{k: v for k, v in config["data"]["clip"].items() if k != "_target_"})
    save_model(tmp_path / "model.safetensors", Checkpoint(model.eval(), config, vocabulary, spec, {}))
    torch.manual_seed(99)
    loaded = load_model(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(batch), model(batch), rtol=0, atol=0)
    assert loaded.clip == spec


@pytest.mark.parametrize("choice", WITH_PLACES)
def test_a_frame_can_be_one_token_or_a_grid(choice: str, make: Callable, batches: Callable) -> None:
    batch = batches(choice, frames=8)
    steps = 8 / (STEP_S[choice] * 8)
    one, four, all_places = (
        make(choice, *(f"visual.{setting}" for setting in settings))(batch)
        for settings in (["tokens=frame"], ["grid=2"], [])
    )
    assert one.keep.shape[1] == steps
    places = all_places.keep.shape[1] / steps
    assert four.keep.shape[1] == steps * min(4, places)
    assert math.isqrt(round(places)) ** 2 == places
    torch.testing.assert_close(one.times.unique(), all_places.times.unique())


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("visual.mode=frozn", "frozen, finetune or lora"),
        ("visual.tokens=clip", "patch or frame"),
        ("visual.lora.targets=[nothing]", "nothing"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, says: str, make: Callable) -> None:
    with pytest.raises(UsageError, match=says) as error:
        make("visual=clip", "visual.mode=lora", setting)
    assert "\n" not in str(error.value)


def test_sound_at_another_rate_and_a_batch_without_waveforms_are_refused(make: Callable, make_batch: Callable) -> None:
    with pytest.raises(UsageError, match="sample_rate=48000"):
        make("audio=clap", "data.clip.sample_rate=16000")
    encoder = make("audio=whisper")
    with pytest.raises(UsageError, match="needs 16000 Hz, not 8000"):
        encoder(make_batch(1, rate=8000))
    with pytest.raises(UsageError, match="waveform=true"):
        encoder(replace(make_batch(1), waveform=None))
