"""Which of several streams is read, and what probe says about all of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from media_clips import film, many_streams, muxed, tone

from mmattn.errors import MediaError
from mmattn.media.read.decode import read_clip
from mmattn.media.survey.probe import AudioInfo, VideoInfo, probe


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0, 1: pictures of grey 40 and 200. 2, 3, 4: tones of 400 Hz und, 800 Hz eng, 1600 Hz fra."""
    path = tmp_path_factory.mktemp("several") / "a.mkv"
    return many_streams(path, [40, 200], [(400, "und"), (800, "eng"), (1600, "fra")])


def hertz(waveform) -> int:
    spectrum = np.abs(np.fft.rfft(waveform.numpy()))
    return round(int(spectrum.argmax()) * 16000 / len(waveform))


@pytest.mark.parametrize(
    ("video_stream", "audio_stream", "grey", "heard"),
    [(None, None, 40, 400), (1, None, 200, 400), (0, 4, 40, 1600), (1, "eng", 200, 800), (None, "FRA", 40, 1600)],
)
def test_the_streams_asked_for_are_read(several: Path, video_stream, audio_stream, grey: int, heard: int):
    clip = read_clip(several, frames=3, video_stream=video_stream, audio_stream=audio_stream)
    assert abs(clip.frames.float().mean() - grey) < 3 and hertz(clip.waveform) == heard
    info = probe(several, video_stream=video_stream, audio_stream=audio_stream)
    assert (info.video.index, info.audio.index) == (video_stream or 0, {400: 2, 800: 3, 1600: 4}[heard])


@pytest.mark.parametrize(
    "wrong", [{"video_stream": 2}, {"video_stream": 7}, {"audio_stream": 0}, {"audio_stream": "deu"}]
)
def test_a_stream_that_is_not_there_is_told_with_those_that_are(several: Path, wrong: dict):
    for read in (lambda: read_clip(several, frames=1, **wrong), lambda: probe(several, **wrong)):
        with pytest.raises(MediaError, match=r"no_streams .*0 video h264, .*3 audio flac eng") as caught:
            read()
        assert str(next(iter(wrong.values()))) in caught.value.detail


@pytest.mark.parametrize(
    "wrong", [{"video_stream": -1}, {"video_stream": "eng"}, {"audio_stream": ""}, {"audio_stream": True}]
)
def test_what_names_no_stream_of_any_file_is_a_value_error(several: Path, wrong: dict):
    for read in (lambda: read_clip(several, frames=1, **wrong), lambda: probe(several, **wrong)):
        with pytest.raises(ValueError, match="must be an index"):
            read()


def test_a_stream_without_a_decoder_gives_way_to_one_that_has(several: Path, tmp_path: Path):
    path = tmp_path / "a.mkv"
    path.write_bytes(several.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_NOBODY/KNOWS!", 1))
    info = probe(path)
    assert info.streams[0].codec is None and info.video.index == 1
    assert abs(read_clip(path, frames=1).frames.float().mean() - 200) < 3
    with pytest.raises(MediaError, match="unsupported_codec"):
        read_clip(path, frames=1, video_stream=0)
    path.write_bytes(several.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_NOBODY/KNOWS!"))
    clip = read_clip(path, frames=1)
    assert clip.frames is None and clip.waveform is not None and "no_video_decoder" in clip.issues
    assert probe(path).video is None and "no_video_decoder" in probe(path).issues


def test_probe_lists_all_streams(several: Path):
    streams = probe(several).streams
    assert [(info.index, info.kind, info.codec, info.language) for info in streams] == [
        (0, "video", "h264", None),
        (1, "video", "h264", None),
        (2, "audio", "flac", None),
        (3, "audio", "flac", "eng"),
        (4, "audio", "flac", "fra"),
    ]
    video, audio = streams[0], streams[3]
    assert isinstance(video, VideoInfo) and isinstance(audio, AudioInfo)
    assert (video.width, video.height, video.fps, video.rotation, video.hdr, video.interlaced) == (
        48,
        32,
        5,
        0,
        None,
        False,
    )
    assert (audio.rate, audio.channels, audio.layout) == (16000, 1, "mono")


@pytest.mark.parametrize(
    ("codec", "pixels", "transfer", "options", "expected"),
    [
        ("libx264", "yuv420p10le", 16, {}, {"hdr": "pq", "bit_depth": 10}),
        ("libx265", "yuv420p10le", 18, {"x265-params": "log-level=none"}, {"hdr": "hlg", "codec": "hevc"}),
        ("libx264", "yuv420p", 0, {"x264-params": "interlaced=1:tff=1"}, {"interlaced": True, "bit_depth": 8}),
        ("mpeg2video", "yuv420p", 0, {"flags": "+ildct+ilme"}, {"interlaced": True, "codec": "mpeg2video"}),
        ("libvpx-vp9", "yuv444p", 0, {"cpu-used": "8"}, {"codec": "vp9", "pixel_format": "yuv444p"}),
        ("ffv1", "yuv422p16le", 0, {}, {"bit_depth": 16, "interlaced": False, "hdr": None}),
    ],
)
def test_what_probe_tells_of_a_picture_its_clip_flags(
    codec: str, pixels: str, transfer: int, options: dict, expected: dict
):
    file = io.BytesIO()
    film(file, codec, pixels, transfer, **options)
    told = probe(file).video
    assert {name: getattr(told, name) for name in expected} == expected
    issues = read_clip(file, frames=2).issues
    assert ("hdr" in issues) == (told.hdr is not None) and ("interlaced" in issues) == told.interlaced


def test_probe_tells_the_turn_and_the_layout(tmp_path: Path):
    sound = np.stack([tone(0.4)] * 6)
    path = muxed(
        tmp_path / "a.mov", picture_pts=list(range(0, 400, 40)), sounds=[(0.0, sound)], layout="5.1", rotation=90
    )
    info = probe(path)
    assert info.video.rotation == 90 and (info.audio.channels, info.audio.layout) == (6, "5.1")
    assert "rotated" in read_clip(path, frames=1).issues
