"""Which declared durations are no guesses; see extent.py."""

from __future__ import annotations

import av
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "avi")
_PCM = ("wav", "w64", "aiff", "au", "caf")
_WITHIN_S, _WITHIN = 1.0, 0.05


def trusted_duration(container: InputContainer) -> float | None:
    """The file's length as its header says, s; None where that is absent, nonsense, or may be a guess."""
    if not container.duration or container.duration <= 0:
        return None
    told, name = container.duration / av.time_base, container.format.name
    streams = [stream for stream in container.streams if isinstance(stream, VideoStream | AudioStream)]
    if name in _INDEXED:
        trusted = _near(told, max((_indexed(stream) for stream in streams), default=0.0))
    elif name == "matroska,webm":
        late = (container.start_time or 0) / av.time_base > _WITHIN_S  # the Duration may count from 0
        trusted = not late and not any(stream.duration for stream in streams)
    elif name in _PCM:
        trusted = len(streams) == 1 and _near(told, _pcm_seconds(container, streams[0]))
    else:
        trusted = name == "flac"
    return told if trusted else None


def _near(told: float, found: float) -> bool:
    return abs(told - found) <= max(_WITHIN_S, _WITHIN * told)


def _indexed(stream: Stream) -> float:
    """From the first packet that the index lists to the last, s."""
    index = stream.index_entries
    return (index[-1].timestamp - index[0].timestamp) * float(stream.time_base) if index and stream.time_base else 0.0


def _pcm_seconds(container: InputContainer, stream: VideoStream | AudioStream) -> float:
    """How long the samples last that a file of this size holds; 0 for codecs whose size does not tell."""
    context = stream.codec_context
    if context is None or not context.name.startswith("pcm_") or not context.bit_rate:
        return 0.0
    return 8 * container.size / context.bit_rate
