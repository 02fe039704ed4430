"""The waveform on its way to a batch: kept when the spec says so, as loud as the spectrogram, missing with it."""

from __future__ import annotations

from dataclasses import replace

import torch

from mmattn.data.load.dataset import stack_samples
from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment, without_audio
from mmattn.data.prepare.clips import ClipSpec, Sample
from mmattn.data.prepare.keys import Key
from mmattn.types import Clip

SPEC = ClipSpec(seconds=0.5, fps=8.0, height=8, width=8, sample_rate=8000, mels=12, waveform=True)
SOUND = torch.sin(torch.arange(2400) * 0.3) * 0.25  # 0.3 s


def _sample(spec: ClipSpec = SPEC, sound: torch.Tensor | None = SOUND) -> Sample:
    return spec.prepare(Clip(None, torch.zeros(0), sound, 8000, 0.1, "", (0.0, 0.5)))


def test_a_batch_has_each_waveform_at_its_time_and_says_where_it_ends() -> None:
    batch = stack_samples([_sample(), _sample(sound=None), without_audio(_sample())], ["a", "b", "c"], SPEC)
    assert batch.waveform is not None and batch.waveform_keep is not None
    assert batch.sample_rate == 8000
    assert batch.waveform.shape == batch.waveform_keep.shape == (3, 4000)
    torch.testing.assert_close(batch.waveform[0, 800:3200], SOUND)
    assert batch.waveform_keep.sum(dim=1).tolist() == [3200, 0, 0]
    assert batch.waveform_keep[0, :3200].all()
    assert batch.to("meta").waveform.device.type == "meta"  # type: ignore[union-attr]


def test_a_spec_keeps_no_waveform_unless_it_is_asked_to() -> None:
    spec = replace(SPEC, waveform=False)
    batch = stack_samples([_sample(spec)], ["a"], spec)
    assert batch.waveform is None and batch.waveform_keep is None


def test_the_waveform_is_as_loud_as_the_spectrogram() -> None:
    augment = Augment(sound=SoundAugment(gain_db=12))
    given, key = _sample(), Key(0, 0, 0)
    louder, _ = augment(given, torch.zeros(1), key, SPEC, None)  # type: ignore[arg-type]
    gain = float(20 * torch.log10(louder.waveform.abs().max() / given.waveform.abs().max()))
    assert 1 < abs(gain) < 12
    torch.testing.assert_close(louder.spectrogram, SPEC.front_end.louder(given.spectrogram, gain))
