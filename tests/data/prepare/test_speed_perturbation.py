"""Speed perturbation: picture and sound stay together, times and pitch are those of the speed."""

from __future__ import annotations

import pytest
import torch

from mmattn.data.prepare.augment.speed import at_speed
from mmattn.data.prepare.clips import PaddedClip

RATE, FPS, SECONDS = 8000, 20, 2


def _clip(frequency: float = 440.0, flash: float = 1.0, heard: int = SECONDS * RATE) -> PaddedClip:
    """A tone, and at `flash` seconds a white frame and a hundred times louder sound for 50 ms."""
    times = (torch.arange(SECONDS * FPS) + 0.5) / FPS
    frames = torch.full((len(times), 3, 4, 4), 9, dtype=torch.uint8)
    frames[(times - flash).abs().argmin()] = 255
    clock = torch.arange(SECONDS * RATE) / RATE
    loud = torch.where((clock - flash).abs() < 0.025, 1.0, 0.01)
    waveform = loud * torch.sin(2 * torch.pi * frequency * clock)
    waveform[heard:] = 0
    return PaddedClip(frames, torch.ones(len(times), dtype=torch.bool), times, waveform, heard)


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
def test_picture_and_sound_move_together(speed: float) -> None:
    clip = at_speed(_clip(flash=1.1), speed)
    seen = float(clip.frame_times[clip.frames.float().mean(dim=(1, 2, 3)).argmax()])
    loud = clip.waveform.abs() > 0.3
    heard = float(torch.arange(len(clip.waveform))[loud].float().mean()) / RATE
    assert seen == pytest.approx(1.1 / speed, abs=0.5 / FPS / speed + 0.5 / FPS)
    assert heard == pytest.approx(1.1 / speed, abs=0.003)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_pitch_goes_with_it(speed: float) -> None:
    clip = at_speed(_clip(frequency=400, flash=-9), speed)
    spectrum = torch.fft.rfft(clip.waveform[: clip.heard]).abs()
    assert float(spectrum.argmax()) * RATE / clip.heard == pytest.approx(400 * speed, abs=1)


def test_a_faster_clip_is_over_sooner_and_a_slower_one_is_cut() -> None:
    faster, slower = at_speed(_clip(), 1.25), at_speed(_clip(), 0.8)
    assert faster.heard == SECONDS * RATE / 1.25
    assert not faster.waveform[faster.heard :].any()
    assert int(faster.frame_keep.sum()) == SECONDS * FPS / 1.25
    assert not faster.frames[~faster.frame_keep].any()
    assert slower.heard == SECONDS * RATE
    assert slower.frame_keep.all()
    assert faster.frames.shape == slower.frames.shape == _clip().frames.shape


def test_what_ends_early_ends_at_its_time() -> None:
    assert at_speed(_clip(heard=RATE), 0.8).heard == RATE / 0.8


def test_speeds_are_steps_of_a_twentieth() -> None:
    clip = _clip()
    assert at_speed(clip, 1.02) is clip
    assert at_speed(clip, 1.04).heard == at_speed(clip, 1.05).heard


def test_a_still_stays_a_still() -> None:
    clip = _clip()
    keep = torch.zeros_like(clip.frame_keep)
    keep[0] = True
    still = PaddedClip(clip.frames * keep[:, None, None, None], keep, clip.frame_times, clip.waveform, clip.heard)
    faster = at_speed(still, 1.25)
    assert torch.equal(faster.frames, still.frames)
    assert torch.equal(faster.frame_keep, keep)
