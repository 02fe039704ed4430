"""Every file of a folder of odd media: a clip or a MediaError, and the frames of a slow decode of everything.

The folder is not part of the project: MMATTN_SHARED or ../shared beside the repository; skipped where it is absent.
"""

import os
from pathlib import Path

import av
import iscc_samples
import numpy as np
import pytest
from av.video.reformatter import Colorspace, Interpolation

from mmattn.errors import MEDIA_REASONS, MediaError
from mmattn.media.open.streams import choose
from mmattn.media.read.decode import read_clip
from mmattn.media.read.frames import slack
from mmattn.media.read.video.orientation import orientation
from mmattn.media.survey.probe import probe

ROOT = Path(os.environ.get("MMATTN_SHARED", Path(__file__).parents[4] / "shared")) / "data"
FILES = sorted(path for folder in ("media", "real_clips") for path in (ROOT / folder).rglob("*") if path.is_file())
SAMPLES = [Path(path) for path in iscc_samples.videos() if Path(path).suffix in (".mp4", ".mkv", ".avi", ".3gp")]
COMPARED = [path for path in FILES if path.name != "long10h.mp4"][::4] + SAMPLES[:1]  # the whole would take minutes
SIZE = (48, 64)


def slow_decode(path: Path) -> tuple[list[float], list[np.ndarray], float] | None:
    """Times, pictures and slack by decoding every packet in turn; None where stamps are missing or turn back."""
    times, images = [], []
    with av.open(str(path), metadata_errors="replace") as container:
        chosen = choose(container, str(path))
        if chosen.video is None:
            return None
        chosen.video.codec_context.thread_count = 1
        for packet in container.demux(chosen.video):
            if packet.size == 0 and packet.dts is not None:
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError:
                return None
            for frame in frames:
                if frame.pts is None or not orientation(frame).is_upright:
                    return None
                times.append(frame.pts * float(chosen.video.time_base) - chosen.origin)
                shrinks = frame.height > SIZE[0] and frame.width > SIZE[1]
                how = Interpolation.AREA if shrinks else Interpolation.BICUBIC
                untagged = frame.colorspace == 2 and not frame.format.is_rgb
                hd = frame.width >= 1280 or frame.height >= 720
                space = Colorspace.ITU709 if untagged and hd else None
                scaled = frame.reformat(SIZE[1], SIZE[0], "rgb24", space, interpolation=how)
                images.append(scaled.to_ndarray().transpose(2, 0, 1))
        margin = slack(chosen.video)
    return None if (np.diff(times) <= 0).any() else (times, images, margin)


@pytest.mark.skipif(not FILES, reason="no shared media folder")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_gives_a_clip_or_a_media_error(path: Path):
    try:
        clip = read_clip(path, frames=6, size=SIZE, deadline_s=60)
    except MediaError as error:
        assert error.reason in MEDIA_REASONS and error.path == os.fspath(path)
        return
    assert clip.frames is not None or clip.waveform is not None or clip.issues
    assert (0 if clip.frames is None else len(clip.frames)) == len(clip.frame_times)
    if clip.waveform is not None:
        assert clip.waveform.abs().max() <= 1 and clip.waveform.isfinite().all()
    assert probe(path).container


@pytest.mark.parametrize("path", COMPARED, ids=lambda path: path.name)
def test_the_frames_are_those_of_a_slow_decode(path: Path):
    try:
        clip = read_clip(path, frames=6, size=SIZE, audio=False, hdr="as_is", deinterlace=False)
        slow = None if clip.frames is None or "bad_packets" in clip.issues else slow_decode(path)
    except MediaError:
        pytest.skip("not readable")
    if slow is None:
        pytest.skip("no picture, or no slow decode to compare with")
    times, images, margin = slow
    for time, frame in zip(clip.frame_times.tolist(), clip.frames.numpy(), strict=True):
        shown = max(int(np.searchsorted(times, time + margin, side="right")) - 1, 0)
        np.testing.assert_array_equal(frame, images[shown])
