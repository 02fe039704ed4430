"""One bundle: its images and audio, and what happens to damaged and hostile ones."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.errors import MediaError
from mmattn.media.read.decode import read_request
from mmattn.media.read.request import Request
from mmattn.media.write.bundle import read_bundle, times, write_bundle
from mmattn.media.write.video import write_video
from mmattn.types import ByteRange, Clip

FPS, SECONDS = 8, 1.5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one film: a square that moves, and a tone."""
    folder = tmp_path_factory.mktemp("film")
    frames = np.full((12, 48, 64, 3), 70, np.uint8)
    for t in range(12):
        frames[t, 16:32, 4 * t : 4 * t + 16] = (250, 140, 30)
    tone = (0.4 * np.sin(np.arange(24000) * 0.11)).astype(np.float32)
    write_video(folder / "3.mp4", frames, FPS, tone)
    return folder


@pytest.fixture(scope="module")
def clip(root: Path) -> Clip:
    return read_request(Request(times(SECONDS, FPS), end=SECONDS), root / "3.mp4")


@pytest.fixture(scope="module")
def bundle(clip: Clip) -> bytes:
    return write_bundle("00000003", clip, FPS, "flac", 95, {"id": "clip 3"})


def test_each_time_shows_the_picture_that_stands_for_it(clip: Clip, bundle: bytes) -> None:
    assert clip.frames is not None
    asked = [0.0, 0.0625, 0.12, 0.125, 0.7, 0.7, 1.4999, 1.5, 9.0]
    found = read_bundle(Request(asked, end=10.0), bundle)
    assert found.frame_times.tolist() == asked[:7]
    assert found.frames is not None and found.duration == SECONDS
    for frame, k in zip(found.frames, (0, 0, 0, 1, 5, 5, 11), strict=True):
        errors = [float((frame.float() - other.float()).abs().mean()) for other in clip.frames]
        assert int(np.argmin(errors)) == k and errors[k] < 3


@pytest.mark.parametrize("kind", ["flac", "wav"])
@pytest.mark.parametrize(("start", "end", "rate"), [(0.0, None, 16000), (0.4, 1.1, 16000), (0.5, 1.0, 8000)])
def test_sound_comes_back_as_it_was(
    clip: Clip, kind: str, start: float, end: float | None, rate: int, root: Path
) -> None:
    packed = write_bundle("k", clip, FPS, kind, 95, {})  # type: ignore[arg-type]
    found = read_bundle(Request(start=start, end=end, video=False, audio_rate=rate), packed)
    wanted = read_request(Request(start=start, end=end, video=False, audio_rate=rate), root / "3.mp4")
    assert found.waveform is not None and wanted.waveform is not None
    assert (found.sample_rate, found.audio_start) == (rate, start)
    count = min(len(found.waveform), len(wanted.waveform))
    assert len(found.waveform) == (len(wanted.waveform) if end else 24000)  # without AAC's padding
    quiet = 2e-5 if rate == 16000 else 5e-3  # a resampler's edges
    assert float((found.waveform[:count] - wanted.waveform[:count]).abs().max()) < quiet


def test_a_bundle_is_found_at_its_place_and_scaled_like_a_file(clip: Clip, bundle: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"before" + bundle + b"after")
    request = Request(times(SECONDS, FPS), end=SECONDS, size=(16, 20), fit="crop")
    found = read_bundle(request, ByteRange(tmp_path / "x.tar", 6, len(bundle)))
    direct = read_bundle(request, bundle)
    assert found.frames is not None and direct.frames is not None
    assert found.frames.shape == (12, 3, 16, 20) and torch.equal(found.frames, direct.frames)


def _tar(*members: tuple[str, bytes], **changes: object) -> bytes:
    out = io.BytesIO()
    for name, data in members:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        for key, value in changes.items():
            setattr(header, key, value)
        out.write(header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512))
    return out.getvalue()


def _hostile(bundle: bytes) -> Iterator[tuple[str, bytes]]:
    size = tarfile.TarInfo.frombuf(bundle[:512], "ascii", "strict").size
    record = json.loads(bundle[512 : 512 + size])
    text = json.dumps(record).encode()
    yield "no tar", b"not a tar at all" * 100
    yield "empty", b""
    for key in ("../../etc/passwd", "/etc/passwd", "a/b", "a b", "", "k" * 90):
        yield f"key {key!r}", _tar((f"{key}.json", text))
    yield "pickle first", _tar(("k.pkl", text))
    yield "pickle listed", _tar(("k.json", json.dumps(record | {"members": [["pkl", 4, 0]]}).encode()), ("k.pkl", text))
    yield "pickle hidden", _tar(("k.json", json.dumps(record | {"members": []}).encode()), ("k.pkl", text))
    yield "a link", _tar(("k.json", text), type=tarfile.SYMTYPE, linkname="/etc/passwd")
    yield "a directory", _tar(("k.json", text), type=tarfile.DIRTYPE)
    for bad in (-1, 0, 10**15, 1.5, "8", None):
        yield f"size {bad}", _tar(("k.json", json.dumps(record | {"members": [["000000.jpg", bad, 0]]}).encode()))
    for key, bad in (("fps", 0), ("fps", "x"), ("fps", 1e400), ("duration", -1), ("members", 3), ("members", [[1]])):
        yield f"{key}={bad}", _tar(("k.json", json.dumps(record | {key: bad}).encode()))
    yield "not JSON", _tar(("k.json", b"{" * 10_000))
    yield "deep JSON", _tar(("k.json", b"[" * 100_000))


def test_nothing_but_a_bundle_is_read(bundle: bytes) -> None:
    for what, data in _hostile(bundle):
        with pytest.raises(MediaError):
            read_bundle(Request(frames=2), data)
            pytest.fail(what)


def test_a_flipped_bit_anywhere_is_an_error_or_harmless(clip: Clip, bundle: bytes) -> None:
    draw = random.Random(0)
    request = Request(times(SECONDS, FPS), end=SECONDS)
    whole = read_bundle(request, bundle)
    assert whole.frames is not None and whole.waveform is not None
    failed = 0
    for _ in range(150):
        data = bytearray(bundle)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            found = read_bundle(request, bytes(data))
        except MediaError:
            failed += 1
            continue
        assert found.frames is not None and torch.equal(found.frames, whole.frames)
        assert found.waveform is not None and torch.equal(found.waveform, whole.waveform)
    assert failed > 75


def test_a_deadline_holds(bundle: bytes) -> None:
    with pytest.raises(MediaError, match="timeout"):
        read_bundle(Request(times(SECONDS, FPS), end=SECONDS), bundle, deadline_s=-1.0)
