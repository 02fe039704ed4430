"""Every file of a folder of odd media, read by one isolated reader: probe and the clip agree, and no process dies.

The folder is not part of the project: MMATTN_SHARED or ../shared beside the repository; skipped where it is absent.
"""

import os
from itertools import islice
from pathlib import Path

import pytest

from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.read.windows.layout import Windows
from mmattn.media.survey.probe import probe

ROOT = Path(os.environ.get("MMATTN_SHARED", Path(__file__).parents[4] / "shared")) / "data" / "media"
FILES = sorted(path for path in ROOT.rglob("*") if path.is_file())
ASKED = Request(frames=4, size=(48, 64), measure_end=True)

pytestmark = pytest.mark.skipif(not FILES, reason="no shared media folder")


@pytest.fixture(scope="module")
def reader():
    with IsolatedReader(deadline_s=60.0) as reader:
        yield reader


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_probe_and_clip_agree(reader: IsolatedReader, path: Path):
    try:
        told = probe(path)
    except MediaError as error:
        with pytest.raises(MediaError) as caught:
            reader.read(path, ASKED)
        assert caught.value.reason == error.reason
        return
    try:
        clip = reader.read(path, ASKED)
    except MediaError as error:
        assert error.reason in ("truncated", "unsupported_codec")  # a header, and nothing after it that decodes
        return
    assert set(told.issues) <= set(clip.issues)
    assert (clip.frames is not None) <= (told.video is not None) and (clip.waveform is not None) <= (
        told.audio is not None
    )
    assert clip.frames is not None or told.video is None or "no_frames" in clip.issues
    assert clip.waveform is not None or told.audio is None or "no_samples" in clip.issues
    assert clip.duration == pytest.approx(told.duration, abs=1e-3)
    if clip.frames is not None and told.video is not None:
        assert ("rotated" in clip.issues) == (told.video.rotation != 0)
        assert ("mirrored" in clip.issues) == told.video.mirrored
        assert ("hdr" in clip.issues) == (told.video.hdr is not None)


@pytest.mark.parametrize("path", FILES[::3], ids=lambda path: path.name)
def test_the_first_windows_are_read_or_refused_as_the_clip_is(reader: IsolatedReader, path: Path):
    try:
        windows = list(islice(reader.windows(path, Windows(2.0, 1.5, ASKED)), 3))
    except MediaError as error:
        try:
            clip = reader.read(path, Request(frames=4, size=(48, 64), end=2.0))
        except MediaError as other:
            assert error.reason == other.reason
        else:
            assert clip.frames is None and clip.waveform is None
        return
    first = reader.read(path, Request(frames=4, size=(48, 64), end=2.0))
    assert (windows[0].frames is None) == (first.frames is None)
    assert (windows[0].waveform is None) == (first.waveform is None)
