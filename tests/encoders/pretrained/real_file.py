"""A real file, 16:9 with stereo sound of an odd length, and what a library's own pipeline would be given of it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from mmattn.config.compose import Config, build, compose
from mmattn.data.load.dataset import stack_samples
from mmattn.data.prepare.clips import ClipSpec
from mmattn.encoders.interface import Encoder
from mmattn.model import with_frames
from mmattn.types import Batch, Tokens

WIDTH, HEIGHT, FPS, RATE = 320, 180, 12, 44100
SAMPLES = 104_517  # 2.37 s: no whole number of any hop


def write_real_file(path: Path) -> Path:
    """A gradient with a moving square and grain, and a chirp in noise, different left and right."""
    generator = np.random.default_rng(0)
    grain = generator.integers(0, 60, (HEIGHT, WIDTH, 3))
    across, down = np.meshgrid(np.linspace(0, 150, WIDTH), np.linspace(0, 120, HEIGHT))
    t = np.arange(SAMPLES) / RATE
    noise = 0.05 * generator.standard_normal((2, SAMPLES))
    sound = 0.3 * np.sin(2 * np.pi * (200 + 900 * t) * t) * (1 + np.array([[0.5], [-0.5]]) * np.sin(5 * t)) + noise
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", FPS, width=WIDTH, height=HEIGHT, pix_fmt="yuv420p", bit_rate=2_000_000)
        audio = file.add_stream("aac", RATE, layout="stereo")
        for k in range(round(SAMPLES / RATE * FPS)):
            picture = np.stack([across, down, 255 - across], axis=2) * 0.7 + grain
            picture[40:100, 10 * k : 10 * k + 50] = 240
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            file.mux(video.encode(frame))
        samples = av.AudioFrame.from_ndarray(sound.astype(np.float32), format="fltp", layout="stereo")
        samples.rate, samples.time_base, samples.pts = RATE, Fraction(1, RATE), 0
        file.mux([*audio.encode(samples), *audio.encode(None), *video.encode(None)])
    return path


def pictures_at(path: Path, times: Sequence[float]) -> list[np.ndarray]:
    """The pictures shown then, (H, W, 3) as PyAV gives them to everybody."""
    with av.open(str(path)) as file:
        shown = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    return [[picture for at, picture in shown if at <= time + 1e-3][-1] for time in times]


def sound_of(path: Path, rate: int) -> np.ndarray:
    """All of it, (N,) float32, the mean of what FFmpeg makes of left and right."""
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=rate)
    with av.open(str(path)) as file:
        frames = [out for frame in file.decode(audio=0) for out in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().mean(axis=0) for frame in frames])


def composed(*overrides: str) -> Config:
    return compose("train", ["data=folder", "data.root=.", "dropout=0.0", "data.clip.seconds=2.5", *overrides])


def encoded(config: Config, group: str, path: Path) -> tuple[Encoder, Batch, Tokens]:
    """The encoder `group` of `config`, the file as it was read for it, and its tokens before their projection."""
    encoder: Encoder = build(config[group]).eval()
    if group == "visual":
        config = with_frames(config, encoder)  # type: ignore[arg-type]
    spec: ClipSpec = build(config["data"]["clip"])
    batch = stack_samples([spec.prepare(spec.read(path))], ["clip"], spec)
    encoder.project = torch.nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        return encoder, batch, encoder(batch)
