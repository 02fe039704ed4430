"""A file is read and nothing else: whatever it points at, no other file is opened and no socket made."""

import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from media_bytes import png
from media_clips import movie, muxed

from mmattn.errors import MediaError
from mmattn.media.read.decode import read_clip
from mmattn.media.survey.probe import probe

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD type="static" mediaPresentationDuration="PT9S"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}
PROTOCOLS = ["file:{}", "concat:{}", "subfile,,start,0,end,0,,:{}", "http://127.0.0.1:9/{}", "pipe:0", "crypto:{}"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("good") / "a.mp4")


def refused(source) -> MediaError:
    with pytest.raises(MediaError) as caught:
        read_clip(source, frames=2)
    with pytest.raises(MediaError):
        probe(source)
    return caught.value


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
        started = time.process_time()  # a wait without end is the test runner's to notice
        assert refused(path).reason == refused(path.read_bytes()).reason == "not_media"
        assert time.process_time() - started < 2
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("scheme", PROTOCOLS)
def test_protocol_names_are_file_names(good: Path, scheme: str):
    assert refused(scheme.format(good)).reason == "unreadable"


def test_a_pattern_in_a_name_is_literal(tmp_path: Path):
    for index in range(3):
        muxed(tmp_path / f"img{index}.mp4", picture_pts=[0, 40])
        (tmp_path / f"img{index}.png").write_bytes(png(8))
    assert refused(tmp_path / "img%d.mp4").reason == refused(tmp_path / "img%d.png").reason == "unreadable"
    movie(tmp_path / "img%d.mp4", count=9)
    assert len(read_clip(tmp_path / "img%d.mp4", fps=25).frames) == 9
    (tmp_path / "img%d.png").write_bytes(png(16))
    assert read_clip(tmp_path / "img%d.png", frames=1).frames.shape == (1, 3, 16, 16)


TRACED = """
import sys
from mmattn.errors import MediaError
from mmattn.media.read.decode import read_clip
from mmattn.media.survey.probe import probe
read_clip(sys.argv[1], frames=2)  # what is imported late is imported now
for path in ["begin", *sys.argv[1:], "end"]:
    try:
        read_clip(path, frames=2)
        probe(path)
    except MediaError:
        pass
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_operating_system_sees_one_file_opened_a_reading_and_no_socket(tmp_path: Path, good: Path):
    shutil.copy(good, tmp_path / "target.ts")
    paths = [good]
    for kind, text in PLAYLISTS.items():
        for where in ("target.ts", "http://127.0.0.1:9/target.ts"):
            paths.append(tmp_path / f"{kind}{len(paths)}.mp4")
            paths[-1].write_text(text.format(target=where, port=5004))
    names = [*map(str, paths), *(scheme.format(good) for scheme in PROTOCOLS)]
    log, trace = tmp_path / "log", ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%network,/open,/exec"]
    command = [*trace, "-o", str(log), sys.executable, "-c", TRACED, *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    calls = log.read_text().splitlines()
    first, last = (next(k for k, call in enumerate(calls) if f'"{mark}"' in call) for mark in ("begin", "end"))
    opened = [match[1] for call in calls[first + 1 : last] if (match := re.search(r'open\w*\([^"]*"([^"]*)"', call))]
    assert set(opened) == set(names) and len(calls[first + 1 : last]) == len(opened), calls[first + 1 : last]
