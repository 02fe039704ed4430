"""Write one short video file, H.264 + AAC in MP4 by default; it appears only when complete.

The same input gives the same bytes: one encoder thread, no dates, no version strings (FFmpeg's bitexact flags).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags as CodecFlags
from av.container.core import Flags as ContainerFlags
from av.container.output import OutputContainer
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

_FORMATS = {".mp4": "mp4", ".m4a": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_AUDIO_FORMATS = {"aac": "fltp", "libopus": "flt", "flac": "s16", "pcm_s16le": "s16"}


def write_video(
    path: str | Path,
    frames: np.ndarray | None,
    fps: Fraction | int,
    waveform: np.ndarray | None = None,
    sample_rate: int = 16000,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    options: Mapping[str, str] | None = None,
) -> None:
    """Write `frames` (T, H, W, 3) uint8 RGB at `fps` and `waveform` (N,) float32 in [-1, 1] at `sample_rate` Hz.

    Either stream may be None, not both. Frame k is shown from k/fps, sample n is played at n/sample_rate: an
    edit list compensates the encoder's priming. `options` go to the video encoder, such as {"crf": "18"}. The suffix of
    `path` selects the container. Raises ValueError for shapes, types or suffixes that cannot be written.
    """
    _check(frames, waveform)
    size = None if frames is None else (frames.shape[1], frames.shape[2])
    rate = None if waveform is None else sample_rate
    with writing_video(path, size, fps, rate, video_codec, audio_codec, options) as writer:
        written = 0
        for k, pixels in enumerate(() if frames is None else frames):
            writer.show(pixels)
            if waveform is not None:  # interleaved: a frame, then its audio
                upto = min(int((k + 1) * sample_rate / fps), len(waveform))
                writer.sound(waveform[written:upto])
                written = upto
        if waveform is not None:
            writer.sound(waveform[written:])


@contextmanager
def writing_video(
    path: str | Path,
    size: tuple[int, int] | None,
    fps: Fraction | int,
    sample_rate: int | None = None,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    options: Mapping[str, str] | None = None,
) -> Iterator[VideoWriter]:
    """Open a VideoWriter for frames and samples that come piece by piece.

    `size` (height, width), both even, None: no video; `sample_rate` in Hz, None: no audio. If the body fails, nothing
    is left at `path`. Raises ValueError as write_video does.
    """
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        raise ValueError(f"{target.name}: the suffix must be one of {', '.join(_FORMATS)}")
    if size is None and sample_rate is None:
        raise ValueError("a file needs frames or a waveform, both are None")
    if size is not None and (size[0] % 2 or size[1] % 2):
        raise ValueError(f"yuv420p needs an even height and width, got {size[0]} x {size[1]}")
    if sample_rate is not None and audio_codec not in _AUDIO_FORMATS:
        raise ValueError(f"audio_codec must be one of {', '.join(_AUDIO_FORMATS)}, got {audio_codec}")
    with _replacing(target) as file:
        container = av.open(file, "w", format=_FORMATS[target.suffix.lower()])
        with container:
            container.flags |= ContainerFlags.bitexact.value
            video = None if size is None else _add_video(container, size, Fraction(fps), video_codec, options)
            audio = None if sample_rate is None else _add_audio(container, sample_rate, audio_codec)
            writer = VideoWriter(container, video, Fraction(fps), audio, sample_rate or 0)
            yield writer
            writer.flush()


class VideoWriter:
    """Takes frames and samples, each in order; see writing_video."""

    def __init__(
        self,
        container: OutputContainer,
        video: VideoStream | None,
        fps: Fraction,
        audio: AudioStream | None,
        sample_rate: int,
    ) -> None:
        self._container = container
        self._video, self._fps = video, fps
        self._audio, self._sample_rate = audio, sample_rate
        self._shown = self._heard = 0

    def show(self, pixels: np.ndarray) -> None:
        """Write the next frame, (H, W, 3) uint8 RGB."""
        assert self._video is not None
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = self._shown, 1 / self._fps
        self._container.mux(self._video.encode(frame))
        self._shown += 1

    def sound(self, samples: np.ndarray) -> None:
        """Write the next samples, (n,) float32 in [-1, 1]."""
        assert self._audio is not None
        if not len(samples):
            return
        kind = self._audio.codec_context.format.name
        if kind == "s16":
            samples = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(samples[None], format=kind, layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = self._sample_rate, Fraction(1, self._sample_rate), self._heard
        self._container.mux(self._audio.encode(sound))
        self._heard += len(samples)

    def flush(self) -> None:
        """Write what the encoders still hold."""
        for stream in (self._video, self._audio):
            if stream is not None:
                self._container.mux(stream.encode(None))


def _check(frames: np.ndarray | None, waveform: np.ndarray | None) -> None:
    if frames is not None and (
        frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames)
    ):
        raise ValueError(f"frames must be (T > 0, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
    if waveform is not None and (waveform.ndim != 1 or waveform.dtype != np.float32 or not len(waveform)):
        raise ValueError(f"waveform must be (N > 0,) float32, got {waveform.shape} {waveform.dtype}")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that is renamed to it when the body succeeds and removed when it fails."""
    beside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _add_video(
    container: OutputContainer, size: tuple[int, int], fps: Fraction, codec: str, options: Mapping[str, str] | None
) -> VideoStream:
    # With macroblock trees x264 sometimes writes other bytes for the same frames, even in one thread.
    steady = {"mbtree": "0"} if codec == "libx264" else {}
    stream = cast(VideoStream, container.add_stream(codec, rate=fps, options={**steady, **(options or {})}))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.colorspace = Colorspace.ITU601  # else players assume BT.709 for large frames
    stream.codec_context.time_base = 1 / fps
    stream.codec_context.thread_count = 1  # x264 decides differently with more threads
    stream.codec_context.flags |= CodecFlags.bitexact.value
    return stream


def _add_audio(container: OutputContainer, sample_rate: int, codec: str) -> AudioStream:
    quick = {"aac_coder": "fast"} if codec == "aac" else {}  # a quarter of the time at about the same size
    stream = cast(AudioStream, container.add_stream(codec, rate=sample_rate, options=quick))
    stream.codec_context.layout = "mono"
    stream.codec_context.format = _AUDIO_FORMATS[codec]
    stream.codec_context.time_base = Fraction(1, sample_rate)
    stream.codec_context.flags |= CodecFlags.bitexact.value
    return stream
