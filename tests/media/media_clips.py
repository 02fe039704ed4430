"""Small files made on the spot: the brightness of a picture tells its index."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from mmattn.media.write.video import write_video

STEP = 8  # grey levels between one frame and the next; H.264 blurs by far less


def numbered(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """(count, height, width, 3) uint8; frame k is grey 16 + STEP k."""
    levels = 16 + STEP * np.arange(count)
    assert levels[-1] < 250
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).astype(np.uint8)


def indices(frames) -> list[int]:
    """The index that each frame's brightness tells, of (T, 3, H, W)."""
    return [round((float(frame.float().mean()) - 16) / STEP) for frame in frames]


def tone(seconds: float, rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    """(N,) float32 sine of amplitude 0.5."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def movie(path: Path, count: int = 25, fps: int = 25, seconds: float | None = None, **options: str) -> Path:
    """`count` numbered frames and a tone of the same length (or `seconds`); B-frames unless `options` forbid."""
    sound = tone(count / fps if seconds is None else seconds)
    write_video(path, numbered(count), fps, sound, options={"bf": "3", "crf": "10"} | options)
    return path


def muxed(
    path: Path,
    picture_pts: Sequence[int] = (),
    sounds: Sequence[tuple[float, np.ndarray]] = (),
    rate: int = 16000,
    layout: str = "mono",
    rotation: int = 0,
) -> Path:
    """Numbered frames at the given milliseconds, and pieces of sound (start s, (channels, N) float32) in FLAC."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "2", "crf": "10"}) if picture_pts else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
        audio = container.add_stream("pcm_f32le", rate=rate) if sounds else None
        if audio is not None:
            audio.codec_context.layout = layout
        if video is not None:
            for pts, pixels in zip(picture_pts, numbered(len(picture_pts)), strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts, frame.time_base = pts, Fraction(1, 1000)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            for start, samples in sounds:
                packed = np.ascontiguousarray(samples.T.reshape(1, -1))
                piece = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
                piece.sample_rate, piece.time_base, piece.pts = rate, Fraction(1, rate), round(start * rate)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def film(path: Path | BinaryIO, codec: str, pixels: str = "yuv420p", transfer: int = 0, **options: str) -> None:
    """Ten numbered frames at 25 fps by any encoder, in Matroska. `transfer` as ITU-T H.273 numbers it."""
    with av.open(path, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        if transfer:
            stream.codec_context.color_trc = transfer
        for image in numbered(10, 48, 64):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if transfer:
                frame.color_trc = transfer
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def many_streams(path: Path, pictures: Sequence[int] = (), sounds: Sequence[tuple[float, str]] = ()) -> Path:
    """One second of several streams: still pictures of the given greys, then tones of (hertz, language)."""
    with av.open(str(path), "w") as container:
        videos = [container.add_stream("libx264", rate=5, options={"crf": "10"}) for _ in pictures]
        audios = [container.add_stream("flac", rate=16000) for _ in sounds]
        for stream in videos:
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for stream, (_, language) in zip(audios, sounds, strict=True):
            stream.codec_context.layout, stream.codec_context.format = "mono", "s16"
            stream.metadata["language"] = language
        for k in range(5):
            for stream, grey in zip(videos, pictures, strict=True):
                frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), grey, np.uint8), format="rgb24")
                frame.pts, frame.time_base = k, Fraction(1, 5)
                container.mux(stream.encode(frame))
            for stream, (hertz, _) in zip(audios, sounds, strict=True):
                piece = (tone(1.0, hertz=hertz) * 32767).astype(np.int16)[None, k * 3200 : (k + 1) * 3200]
                sound = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
                sound.sample_rate, sound.time_base, sound.pts = 16000, Fraction(1, 16000), k * 3200
                container.mux(stream.encode(sound))
        for stream in [*videos, *audios]:
            container.mux(stream.encode(None))
    return path
