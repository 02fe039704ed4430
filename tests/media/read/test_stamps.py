"""Times that no clock would tell: handled, and said in the issues, or refused; never an odd clip or a hang."""

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from media_bytes import patched, raw_mp4, remuxed, restamped
from media_clips import indices, movie, muxed, tone

from mmattn.errors import MediaError
from mmattn.media.read.decode import read_clip
from mmattn.media.survey.probe import probe

DURATION = b"\x44\x89\x88"  # Matroska's element, 8 bytes of float
ODD = [float("nan"), float("inf"), float("-inf"), -5.0, 0.0, 1e300]


@pytest.fixture(scope="module")
def matroska(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("matroska") / "a.mkv"
    return muxed(path, list(range(0, 400, 40)), [(0.0, tone(0.4)[None])]).read_bytes()


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """25 frames without B-frames and their tone."""
    return remuxed(movie(tmp_path_factory.mktemp("flash") / "a.mp4", bf="0"), "flv")


@pytest.mark.parametrize("duration", ODD)
def test_a_header_with_a_duration_that_is_none_is_read_without(matroska: bytes, flash: bytes, duration: float):
    for plain, mark in ((matroska, DURATION), (flash, b"duration\x00")):
        data = patched(plain, mark, struct.pack(">d", duration))
        clip, info = read_clip(data, fps=25), probe(data)
        assert torch.equal(clip.frames, read_clip(plain, fps=25).frames) and clip.waveform is not None
        assert clip.duration in (None, info.duration) and 0 < info.duration < 2


@pytest.mark.parametrize("scale", [0, 1, 0xFFFFFF])
def test_an_odd_unit_of_time_is_read_or_refused(matroska: bytes, scale: int):
    data = patched(matroska, b"\x2a\xd7\xb1\x83", scale.to_bytes(3))
    try:
        clip = read_clip(data, times=[0.0])
    except MediaError as error:
        assert error.reason in ("too_long", "too_large")
    else:
        assert len(clip.frames) == 1  # which one depends on the unit


STAMPS: dict[str, Callable[[int, int], int]] = {
    "all the same": lambda _, ms: 0,
    "backwards": lambda _, ms: 10_000 - ms,
    "negative": lambda _, ms: ms - 5000,
    "a jump of weeks": lambda k, ms: ms if k < 30 else ms + 2**31 - 1,
    "a jump back": lambda k, ms: ms + 5000 if k < 30 else ms,
    "at random": lambda _, ms: ms * 2654435761 % 2**31,
}


@pytest.mark.parametrize("name", STAMPS)
@pytest.mark.parametrize("grid", [{"fps": 5}, {"frames": 3}, {"times": [0.0, 0.1, 0.7]}], ids=str)
def test_stamps_no_clock_would_give_are_mended_or_refused(flash: bytes, name: str, grid: dict):
    started = time.process_time()  # a wait without end is the test runner's to notice
    try:
        clip = read_clip(restamped(flash, STAMPS[name]), **grid)
    except MediaError as error:
        assert error.reason in ("too_long", "too_large") and name in ("a jump of weeks", "a jump back", "at random")
    else:
        assert clip.frames is not None and len(clip.frame_times) == len(clip.frames)
        assert name == "negative" or {"pts_fixed", "sequential_fallback", "gap", "overlap"} & set(clip.issues)
    assert time.process_time() - started < 5


def test_negative_stamps_begin_the_clock_at_the_first(flash: bytes):
    plain = read_clip(flash, fps=25)
    shifted = read_clip(restamped(flash, STAMPS["negative"]), fps=25)
    assert set(indices(plain.frames)) == set(range(25)) and torch.equal(shifted.frames, plain.frames)
    assert torch.equal(shifted.waveform, plain.waveform)


def test_two_programmes_in_one_stream_are_read_in_turn(tmp_path: Path):
    stream = remuxed(movie(tmp_path / "a.mp4"), "mpegts")
    once, twice = read_clip(stream, fps=25), read_clip(stream + stream, fps=25)
    assert "clock_jump" in twice.issues and len(twice.waveform) > 1.9 * len(once.waveform)
    assert indices(twice.frames)[: len(once.frames)] == indices(once.frames)
    assert len(set(indices(twice.frames)[len(once.frames) :])) > 20


@pytest.mark.parametrize(("delta", "timescale"), [(0, 25), (1, 0), (1, 2**32 - 1), (2**32 - 5, 25)])
def test_an_odd_table_of_times_is_read_or_refused(delta: int, timescale: int):
    try:
        clip = read_clip(raw_mp4(delta=delta, timescale=timescale), frames=2)
    except MediaError as error:
        assert error.reason in ("too_long", "too_large", "truncated")
    else:
        assert clip.frames is not None and len(clip.frames) <= 2
