"""Small files that claim much: each is refused or read in bounds, before the memory or the time is spent."""

import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from media_bytes import png, raw_mp4, remuxed, wav
from media_clips import movie, muxed

from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.open.container import Limits
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.survey.probe import probe

YEAR_MS = 365 * 24 * 3600 * 1000


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("good") / "a.mp4")


def refused(source, **options) -> MediaError:
    with pytest.raises(MediaError) as caught:
        read_clip(source, **({"frames": 2} | options))
    assert "\n" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(duration_s=0.5), "too_long"),
        (Limits(frame_pixels=1000), "too_large"),
        (Limits(streams=1), "too_large"),
        (Limits(frames=10), "too_large"),
        (Limits(sample_rate=8000), "too_large"),
        (Limits(decoded_bytes=4000), "too_large"),
    ],
    ids=lambda value: str(value).split("(")[0],
)
def test_each_limit_is_kept(good: Path, limits: Limits, reason: str):
    assert refused(good, limits=limits).reason == reason


def test_a_deadline_is_kept(good: Path):
    assert refused(good, deadline_s=0.0).reason == "timeout"
    with pytest.raises(MediaError, match="timeout"):
        probe(good, deadline_s=0.0)


HUGE = """
import re, sys
from pathlib import Path
from mmattn.errors import MediaError
from mmattn.media.read.decode import read_clip
from mmattn.media.survey.probe import probe
from mmattn.media.open.container import Limits
def peak():  # not ru_maxrss, which starts at the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
for path in sys.argv[1:]:
    limits = Limits(frame_pixels=4_000_000) if "4000" in path else Limits()
    for read in (probe, lambda *a, **k: read_clip(*a, frames=1, **k)):
        try:
            read(path, limits=limits)
            print("read", end=" ")
        except MediaError as error:
            print(error.reason, end=" ")
    print((peak() - before) // 1024)
"""


def huge(folder: Path, side: int, suffix: str) -> Path:
    path = folder / f"{side}{suffix}"
    codec = {".ts": "mpeg2video", ".mov": "png"}.get(suffix, "mjpeg")
    pixels = {"mpeg2video": "yuv420p", "mjpeg": "yuvj420p"}.get(codec, "gray")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, pixels
        frame = av.VideoFrame(side, side, pixels)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def demand_small(paths: list[Path]) -> None:
    """Have all read in turn by a fresh process; each must be refused, and the peak never rise by 100 MiB."""
    done = subprocess.run([sys.executable, "-c", HUGE, *map(str, paths)], capture_output=True, text=True, check=True)
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        _, reason, mebibytes = line.split()
        assert reason in ("too_large", "unsupported_codec"), path.name
        assert int(mebibytes) < 100, f"{mebibytes} MiB after {path.name}"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_a_huge_frame_is_refused_without_its_memory(tmp_path: Path):
    (tmp_path / "16000.png").write_bytes(png(16000))
    (tmp_path / "png.mp4").write_bytes(png(16000))
    videos = [huge(tmp_path, 4000, suffix) for suffix in (".mp4", ".mkv", ".ts", ".avi", ".mov")]
    demand_small([*videos, tmp_path / "16000.png", tmp_path / "png.mp4"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_a_video_of_16000_squared_is_refused_without_its_memory(tmp_path: Path):
    demand_small([huge(tmp_path, 16000, suffix) for suffix in (".mov",)])


def test_many_streams_are_refused():
    assert len(probe(raw_mp4(tracks=64)).streams) == 64
    assert refused(raw_mp4(tracks=65)).reason == refused(raw_mp4(tracks=1000)).reason == "too_large"


def test_years_are_refused(tmp_path: Path):
    assert refused(raw_mp4(delta=2**31 - 1)).reason == "too_long"  # by the table of times
    path = muxed(tmp_path / "a.mkv", picture_pts=[0, 40, YEAR_MS])
    assert refused(path).reason == "too_long"  # by the header
    endless = remuxed(path, "matroska", live="1")  # a header that says nothing
    assert refused(endless).reason == "too_long"  # by the packets
    with pytest.raises(MediaError, match="too_long"):
        probe(endless)
    assert len(read_clip(endless, times=[0.0, 0.05, 0.1]).frames) == 3  # a given span needs no end


def test_ten_thousand_frames_a_second_are_read_by_time():
    clip = read_clip(raw_mp4(timescale=10_000), times=[0.0, 0.00015, 0.00031])
    assert [round((float(frame.float().mean()) - 16) / 8) for frame in clip.frames] == [0, 1, 3]
    assert probe(raw_mp4(timescale=10_000)).video.fps == 10_000


@pytest.mark.parametrize("grid", [{"frames": 10**12}, {"fps": 1e9}, {"fps": 1e9, "end": 1e9}, {"fps": 1e300}])
def test_a_grid_too_long_to_make_is_not_made(good: Path, grid: dict):
    started = time.process_time()  # a wait without end is the test runner's to notice
    assert refused(good, **({"frames": None} | grid)).reason == "too_large"
    assert time.process_time() - started < 1


@pytest.mark.parametrize("rate", [2**31 - 1, 10**9, 10**6])
def test_a_wild_sample_rate_is_refused_before_it_is_resampled(rate: int):
    assert refused(wav(bytes(4000), rate=rate), video=False, frames=None).reason == "too_large"


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (1, 1), (7, 2), (16000, 0), (16000, 255), (16000, 65535)])
def test_an_odd_wave_header_is_read_or_refused(rate: int, channels: int):
    try:
        clip = read_clip(wav(b"\x01\x02" * 200, rate, channels), video=False)
    except MediaError as error:
        assert error.reason in ("truncated", "unsupported_codec", "too_large")
    else:
        assert clip.waveform is not None or "no_samples" in clip.issues


def test_an_index_that_claims_a_hundred_million_frames_is_too_large():
    data = raw_mp4(samples=100_000_000)
    assert len(data) < 5000
    with IsolatedReader(memory_bytes=1 << 30, deadline_s=30) as reader, pytest.raises(MediaError) as caught:
        reader.read(data, Request(frames=2))
    assert caught.value.reason in ("too_large", "truncated")  # FFmpeg may drop an index it cannot hold


def test_a_gap_of_hours_in_the_sound_does_not_fill_the_memory(tmp_path: Path):
    piece = np.ones((1, 160), np.float32)
    path = muxed(tmp_path / "a.mkv", sounds=[(0.0, piece), (20 * 3600.0, piece)])
    error = refused(path, video=False, frames=None)
    assert error.reason == "too_large" and "gap" in error.detail
