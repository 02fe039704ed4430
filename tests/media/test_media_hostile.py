"""Files nobody vouches for: each gives its typed error, and no other file, address or much memory is touched."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import indices, movie, muxed, numbered

from mmattn.errors import MediaError
from mmattn.media.decode import read_clip
from mmattn.media.open import Limits
from mmattn.media.probe import probe
from mmattn.media.write import write_video


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("good") / "a.mp4")


def refused(path: Path | str, **options) -> MediaError:
    with pytest.raises(MediaError) as caught:
        read_clip(path, frames=2, **options)
    assert "\n" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>no</html>", np.random.default_rng(0).bytes(50_000), b"\x00" * 4096, b"word " * 9000],
    ids=["empty", "html", "random", "zeros", "text"],
)
def test_what_is_no_media_is_not_media(tmp_path: Path, content: bytes):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert refused(path).reason == "not_media"
    with pytest.raises(MediaError):
        probe(path)


def test_a_file_cut_before_its_index_is_truncated(tmp_path: Path, good: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(good.read_bytes()[:2000])
    assert refused(path).reason == "truncated"


def test_a_file_cut_in_the_middle_gives_what_is_there(tmp_path: Path):
    whole = tmp_path / "a.mkv"
    write_video(whole, numbered(28), 5, np.zeros(16000 * 5, np.float32), options={"crf": "1", "bf": "0"})
    (tmp_path / "b.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = read_clip(tmp_path / "b.mkv", fps=5)
    assert "truncated" in clip.issues and 3 < len(clip.frames) < 25


def test_flipped_bytes_cost_some_frames_not_the_file(tmp_path: Path):
    path, rng = tmp_path / "a.mp4", np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (40, 32, 48, 3), np.uint8), 25, options={"g": "5"})
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 3 + 2000, 40):
        data[at] ^= 0xFF
    path.write_bytes(data)
    assert len(read_clip(path, fps=25).frames) > 30


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD type="static" mediaPresentationDuration="PT9S"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ts", "a.sdp"])
@pytest.mark.parametrize("where", ["beside", "http"])
def test_playlists_are_not_followed(tmp_path: Path, good: Path, kind: str, name: str, where: str):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        shutil.copy(good, tmp_path / "target.ts")
        target = "target.ts" if where == "beside" else f"http://127.0.0.1:{port}/target.ts"
        path = tmp_path / name
        path.write_text(PLAYLISTS[kind].format(target=target, port=port + 1))
        started = time.monotonic()
        assert refused(path).reason == "not_media"
        assert time.monotonic() - started < 2
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "scheme", ["file:{}", "concat:{}", "subfile,,start,0,end,0,,:{}", "http://127.0.0.1:9/{}", "pipe:0"]
)
def test_protocol_names_are_file_names(good: Path, scheme: str):
    assert refused(scheme.format(good)).reason == "unreadable"


def test_a_pattern_in_a_name_is_literal(tmp_path: Path):
    for index in range(3):
        muxed(tmp_path / f"img{index}.mp4", picture_pts=[0, 40])
    assert refused(tmp_path / "img%d.mp4").reason == "unreadable"
    movie(tmp_path / "img%d.mp4", count=9)
    assert len(read_clip(tmp_path / "img%d.mp4", fps=25).frames) == 9


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "missing", "link", "dangling", "unreadable name"])
def test_what_is_no_regular_file_is_unreadable_at_once(tmp_path: Path, good: Path, kind: str):
    path = tmp_path / "a.mp4"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind in ("link", "dangling"):
        path.symlink_to(good if kind == "link" else tmp_path / "nothing")
    target = {"device": "/dev/zero", "unreadable name": "a\0b"}.get(kind, path)
    started = time.monotonic()
    assert refused(target).reason == "unreadable"
    assert time.monotonic() - started < 1


def test_a_link_is_followed_on_request(tmp_path: Path, good: Path):
    (tmp_path / "a.mp4").symlink_to(good)
    assert len(read_clip(tmp_path / "a.mp4", frames=2, follow_symlinks=True).frames) == 2
    assert probe(tmp_path / "a.mp4", follow_symlinks=True).video is not None


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.mp4", b"a\nb.mp4", b"-i.mp4", b"n" * 251 + b".mp4", "\u202egp4.mp4".encode()]
)
def test_odd_names_are_only_names(tmp_path: Path, good: Path, name: bytes):
    path = tmp_path / os.fsdecode(name)
    shutil.copy(good, path)
    clip = read_clip(path, frames=2)
    assert indices(clip.frames) == [6, 18] and clip.source == os.fspath(path)


def test_caps(good: Path):
    assert refused(good, limits=Limits(duration_s=0.5)).reason == "too_long"
    assert refused(good, limits=Limits(frame_pixels=1000)).reason == "too_large"
    assert refused(good, limits=Limits(streams=1)).reason == "too_large"
    assert refused(good, limits=Limits(decoded_bytes=4000)).reason == "too_large"
    assert refused(good, deadline_s=0.0).reason == "timeout"


HUGE = """
import re, sys
from pathlib import Path
from mmattn.errors import MediaError
from mmattn.media.decode import read_clip
from mmattn.media.open import Limits
def peak():  # not ru_maxrss, which starts at the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
try:
    read_clip(sys.argv[1], frames=1, limits=Limits(frame_pixels=4_000_000))
except MediaError as error:
    print(error.reason, (peak() - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".png", ".avi"])
def test_a_huge_frame_is_rejected_without_its_memory(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", format="image2" if suffix == ".png" else None) as container:
        codec = {".png": "png", ".ts": "mpeg2video", ".avi": "mjpeg"}.get(suffix, "mjpeg")
        stream = container.add_stream(codec, rate=25)
        # one cheap frame of a few thousand pixels a side; the cap is lowered to match
        side = 8000 if suffix != ".ts" else 4000
        stream.width = stream.height = side
        stream.pix_fmt = {"png": "gray", "mpeg2video": "yuv420p"}.get(codec, "yuvj420p")
        frame = av.VideoFrame(side, side, stream.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    script = HUGE.replace(
        "frames=1)", "frames=1, limits=__import__('mmattn.media.open').media.open.Limits(frame_pixels=4_000_000))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    reason, mebibytes = done.stdout.split()
    assert reason in ("too_large", "unsupported_codec")
    assert int(mebibytes) < 100, f"{mebibytes} MiB for a frame that is refused"


def test_a_file_that_changes_while_it_is_read_is_reported(tmp_path: Path, good: Path):
    from mmattn.media.open import open_container

    path = tmp_path / "a.mp4"
    shutil.copy(good, path)
    with pytest.raises(MediaError, match="changed"), open_container(path), open(path, "ab") as file:
        file.write(b"more")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_no_descriptor_is_left_open(good: Path, tmp_path: Path):
    (tmp_path / "b.mp4").write_bytes(b"no")
    read_clip(good, frames=2)
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        read_clip(good, frames=2)
        refused(tmp_path / "b.mp4")
    assert len(sorted(Path("/proc/self/fd").iterdir())) == len(before)


def test_cover_art_is_not_a_picture(tmp_path: Path):
    path = tmp_path / "a.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=16000)
        sound.codec_context.layout = "mono"
        cover = container.add_stream("png", rate=1)
        cover.width = cover.height = 16
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        piece = av.AudioFrame.from_ndarray(np.full((1, 16000), 0.1, np.float32), format="fltp", layout="mono")
        piece.sample_rate, piece.pts = 16000, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    clip = read_clip(path, frames=4)
    assert clip.frames is None and clip.waveform is not None
    assert probe(path).video is None and probe(path).audio is not None
