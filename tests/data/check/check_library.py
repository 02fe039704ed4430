"""A folder of media with every flag and every fault, and how to check it."""

from __future__ import annotations

import json
import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mmattn.config.compose import compose
from mmattn.data.check.command import Checked, check

RATE = 16000
HOSTILE = '"><img src=x onerror=alert(1)>\u202e.mp4'


def moving(seconds: float = 2.0, fps: int = 10, seed: int = 0) -> np.ndarray:
    """(T, 48, 64, 3): a bright square that wanders over a fixed texture."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 120, (6, 8, 3)).repeat(8, 0).repeat(8, 1)
    frames = np.tile(ground.astype(np.uint8), (round(seconds * fps), 1, 1, 1))
    for k, frame in enumerate(frames):
        x = 2 * k % 48
        frame[16:32, x : x + 12] = 250
    return frames


def beeps(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """(N,): a tone whose loudness changes at random."""
    gains = np.random.default_rng(seed).uniform(0.02, 0.5, 40)
    time = np.arange(round(seconds * RATE)) / RATE
    return (np.interp(time, np.linspace(0, seconds, 40), gains) * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def uneven(path: Path) -> None:
    """Frames at 0, 0.1, 0.2 s and so on, then every half second; the sound half a second late."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("pcm_s16le", rate=RATE)
        audio.codec_context.layout = "mono"
        stamps = [*range(0, 1000, 100), *range(1000, 4000, 500)]
        for pts, pixels in zip(stamps, moving(seed=7), strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray((beeps(3.0, 7) * 32767).astype(np.int16)[None], "s16", "mono")
        sound.sample_rate, sound.time_base, sound.pts = RATE, Fraction(1, RATE), RATE // 2
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def run_check(source: Path, out: Path, *overrides: str) -> Checked:
    """In this process, as decoding processes take seconds to start; the program's own test has them."""
    return check(compose("data_check", [f"source={source}", f"out={out}", "workers=2", "isolated=false", *overrides]))


def records_of(out: Path, root: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (out / "check.jsonl").read_text().splitlines()]
    records = {os.path.relpath(line["path"], root): line for line in lines}
    assert len(records) == len(lines), "each file once"
    return records
