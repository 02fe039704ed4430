"""Every container and codec that can be written here is read, and probe and read_clip agree on it."""

import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from media_bytes import remuxed
from media_clips import indices, movie, numbered, tone

from mmattn.errors import MediaError
from mmattn.media.read.decode import read_clip
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.survey.probe import VideoInfo, probe

SIZE = (48, 64)


@dataclass(frozen=True)
class Picture:
    container: str
    encoder: str
    pixels: str = "yuv420p"
    frames: int = 8
    codec: str = ""  # as probe tells it, where it is not the encoder's name
    options: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = SIZE

    def __str__(self) -> str:
        return f"{self.encoder}-{self.container}"


PICTURES = [
    Picture("image2pipe", "png", "rgb24", 1),
    Picture("image2pipe", "mjpeg", "yuvj420p", 1),
    Picture("image2pipe", "libwebp", "yuv420p", 1, "webp"),
    Picture("image2pipe", "bmp", "bgr24", 1),
    Picture("image2pipe", "tiff", "rgb24", 1),
    Picture("avif", "libsvtav1", "yuv420p", 1, "av1", {"preset": "12", "svtav1-params": "lp=1"}, (64, 64)),
    Picture("gif", "gif", "rgb8"),
    Picture("apng", "apng", "rgba"),
    Picture("mp4", "libx264", codec="h264"),
    Picture("mp4", "libx265", codec="hevc", options={"x265-params": "log-level=none"}),
    Picture("mp4", "libsvtav1", codec="av1", options={"preset": "12", "svtav1-params": "lp=1"}, size=(64, 64)),
    Picture("mov", "prores_ks", "yuv422p10le", codec="prores"),
    Picture("mov", "qtrle", "rgb24"),
    Picture("webm", "libvpx", codec="vp8"),
    Picture("webm", "libvpx-vp9", codec="vp9", options={"cpu-used": "8"}),
    Picture("matroska", "ffv1"),
    Picture("avi", "mpeg4"),
    Picture("avi", "huffyuv", "yuv422p"),
    Picture("flv", "flv", codec="flv1"),
    Picture("asf", "wmv2"),
    Picture("mpegts", "mpeg2video"),
    Picture("mpeg", "mpeg1video"),
    Picture("ivf", "libvpx", codec="vp8"),
    Picture("nut", "snow", options={"strict": "-2"}),
    Picture("mjpeg", "mjpeg", "yuvj420p"),
]


def pictured(kind: Picture) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=kind.container) as container:
        stream = container.add_stream(kind.encoder, rate=25, options=kind.options)
        (stream.height, stream.width), stream.pix_fmt = kind.size, kind.pixels
        for image in numbered(kind.frames, *kind.size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("kind", PICTURES, ids=str)
def test_pictures(kind: Picture):
    data = pictured(kind)
    told, clip = probe(data), read_clip(data, frames=kind.frames)
    assert told.video is not None and told.audio is None and clip.waveform is None and clip.frames is not None
    assert told.video.codec == (kind.codec or kind.encoder)
    assert (told.video.height, told.video.width) == kind.size == tuple(clip.frames.shape[2:])
    assert indices(clip.frames) == list(range(kind.frames))


@dataclass(frozen=True)
class Sound:
    container: str
    encoder: str
    rate: int = 44100
    layout: str = "stereo"
    codec: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.encoder}-{self.container}-{self.layout}"


SOUNDS = [
    Sound("wav", "pcm_s16le"),
    Sound("wav", "pcm_mulaw", 8000, "mono"),
    Sound("wav", "adpcm_ima_wav"),
    Sound("w64", "pcm_f32le", layout="5.1"),
    Sound("aiff", "pcm_s16be"),
    Sound("au", "pcm_s16be", 22050),
    Sound("caf", "alac"),
    Sound("mp3", "libmp3lame", codec="mp3"),
    Sound("mp2", "mp2"),
    Sound("flac", "flac", 48000, "7.1"),
    Sound("adts", "aac"),
    Sound("ipod", "aac", layout="7.1"),
    Sound("mp4", "aac", 16000, "mono"),
    Sound("ogg", "libopus", 48000, codec="opus"),
    Sound("ogg", "libopus", 48000, "7.1", codec="opus"),
    Sound("ogg", "vorbis", options={"strict": "-2"}),
    Sound("webm", "libopus", 48000, "5.1", codec="opus"),
    Sound("ac3", "ac3", 48000, "5.1"),
    Sound("eac3", "eac3", 48000, "5.1"),
    Sound("asf", "wmav2", options={"b": "128k"}),
    Sound("amr", "libopencore_amrnb", 8000, "mono", "amr_nb"),
    Sound("wv", "wavpack"),
    Sound("tta", "tta"),
    Sound("matroska", "pcm_s24le", 96000),
]


def sounded(kind: Sound) -> bytes:
    """One second of 440 Hz in every channel."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind.container) as container:
        stream = container.add_stream(kind.encoder, rate=kind.rate, options=kind.options)
        stream.codec_context.layout = kind.layout
        stream.codec_context.open(strict=False)
        context = stream.codec_context
        fits = av.AudioResampler(context.format, context.layout, kind.rate, frame_size=context.frame_size or None)
        samples = np.repeat(tone(1.0, kind.rate), context.layout.nb_channels)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=kind.layout)
        frame.sample_rate, frame.pts = kind.rate, 0
        for piece in [*fits.resample(frame), *fits.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("kind", SOUNDS, ids=str)
def test_sounds(kind: Sound):
    data = sounded(kind)
    told, clip = probe(data), read_clip(data, frames=2)
    assert told.audio is not None and told.video is None and clip.frames is None and clip.waveform is not None
    assert told.audio.codec == (kind.codec or kind.encoder) and told.audio.rate == kind.rate
    assert told.audio.channels == av.AudioLayout(kind.layout).nb_channels
    assert 0.95 < len(clip.waveform) / 16000 < 1.15
    middle = clip.waveform[2000:14000].numpy()
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert round(float(spectrum.argmax()) * 16000 / len(middle)) == 440
    assert abs(np.abs(middle).max() - 0.5) < 0.1  # the mean of equal channels is each of them


def test_pictures_that_move_in_a_webp_are_refused_not_guessed():
    """FFmpeg writes them but does not read them."""
    with pytest.raises(MediaError, match="unsupported_codec"):
        read_clip(pictured(Picture("webp", "libwebp_anim", codec="webp")), frames=2)


def test_cover_art_is_not_the_picture_unless_it_is_asked_for():
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        sound = container.add_stream("libmp3lame", rate=16000)
        sound.codec_context.layout = "mono"
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 200, np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        piece = av.AudioFrame.from_ndarray(tone(1.0)[None], format="fltp", layout="mono")
        piece.sample_rate, piece.pts = 16000, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    clip, told = read_clip(file, frames=4), probe(file)
    assert clip.frames is None and clip.waveform is not None and told.video is None and told.audio is not None
    art = next(info for info in told.streams if isinstance(info, VideoInfo))
    assert art.attached_picture and art.codec == "png"
    assert (read_clip(file, times=[0.0], video_stream=art.index).frames == 200).all()


def subtitled(folder: Path, sources: Sequence[Path]) -> bytes:
    """A line of text in Matroska, then the streams of `sources`, and an attachment."""
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\na line\n")
    file = io.BytesIO()
    with ExitStack() as opened:
        target = opened.enter_context(av.open(file, "w", format="matroska"))
        inputs = [opened.enter_context(av.open(str(path))) for path in (folder / "a.srt", *sources)]
        streams = [(source, stream) for source in inputs for stream in source.streams]
        copies = {id(stream): target.add_stream_from_template(stream) for _, stream in streams}
        next(iter(copies.values())).metadata["language"] = "deu"
        target.add_attachment("font.ttf", "application/x-truetype-font", b"not a font")
        for source in inputs:
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[id(packet.stream)]
                    target.mux(packet)
    return file.getvalue()


def test_subtitles_and_data_are_listed_and_left_alone(tmp_path: Path):
    data = subtitled(tmp_path, [movie(tmp_path / "a.mp4", count=9)])
    streams = probe(data).streams
    assert (streams[0].kind, streams[0].codec, streams[0].language) == ("subtitle", "subrip", "deu")
    assert [info.kind for info in streams] == ["subtitle", "video", "audio", "attachment"]
    clip = read_clip(data, fps=25)
    assert set(indices(clip.frames)) == set(range(9)) and clip.waveform is not None
    with pytest.raises(MediaError, match="no_streams"):
        read_clip(data, frames=1, audio_stream="deu")


def test_subtitles_alone_are_no_streams(tmp_path: Path):
    data = subtitled(tmp_path, [])
    for read in (probe, lambda source: read_clip(source, frames=1)):
        with pytest.raises(MediaError, match=r"no_streams .*0 subtitle subrip"):
            read(data)


def test_what_is_encrypted_is_refused_and_said(tmp_path: Path):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "7" * 32, "encryption_kid": "1" * 32}
    data = remuxed(movie(tmp_path / "a.mp4"), "mp4", **key)
    for read in (probe, lambda source: read_clip(source, fps=5), lambda source: list(iter_windows(source, 1.0, fps=5))):
        with pytest.raises(MediaError, match=r"unsupported_codec .*encrypted"):
            read(data)
