"""Which declared durations can be trusted.

Most headers are written before the end is known, and where FFmpeg finds no duration it guesses one from the bit rate
without saying so. Trusted are those that cannot be such a guess:

- MP4, MOV and AVI where the index of packets reaches the declared end, and the file reaches the last of them;
- Matroska and WebM with the segment's Duration (a guess would be the streams' duration too), where no other file
  follows in the same one (see joined.py);
- PCM in WAV, W64, AIFF, AU and CAF where the declared samples fill the file.

FLAC declares its number of samples, which for joined files is that of the first; its packets are counted in no time.
"""

from __future__ import annotations

import av
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from mmattn.media.open.joined import may_be_joined

_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_PCM = ("wav", "w64", "aiff", "au", "caf")
_WITHIN_S, _WITHIN = 1.0, 0.05
_PCM_WITHIN_S = 0.01


def trusted_duration(container: InputContainer) -> float | None:
    """The file's length by its header, s; None where that is absent, invalid or may be a guess."""
    if not container.duration or container.duration <= 0:
        return None
    declared, name = container.duration / av.time_base, container.format.name
    streams = [stream for stream in container.streams if isinstance(stream, VideoStream | AudioStream)]
    if name in (_MP4, "avi"):
        trusted = _near(declared, max((_indexed(stream) for stream in streams), default=0.0))
        trusted = trusted and not (name == _MP4 and any(_is_cut(stream, container.size) for stream in streams))
    elif name == "matroska,webm":
        late = (container.start_time or 0) / av.time_base > _WITHIN_S  # the Duration may count from 0
        trusted = not late and not any(stream.duration for stream in streams) and not may_be_joined(container)
    else:
        pcm = name in _PCM and len(streams) == 1
        found = _pcm_seconds(container, streams[0]) if pcm else 0.0
        trusted = pcm and _near(declared, found) and declared <= found + _PCM_WITHIN_S
    return declared if trusted else None


def _near(declared: float, found: float) -> bool:
    return abs(declared - found) <= max(_WITHIN_S, _WITHIN * declared)


def _indexed(stream: Stream) -> float:
    """Time from the first packet of the index to the last, s."""
    index = stream.index_entries
    return (index[-1].timestamp - index[0].timestamp) * float(stream.time_base) if index and stream.time_base else 0.0


def _is_cut(stream: Stream, size: int) -> bool:
    """Whether the file of `size` bytes ends before the last packet of the index, whose places count from its start."""
    index = stream.index_entries
    return bool(index) and index[-1].pos + index[-1].size > size > 0


def _pcm_seconds(container: InputContainer, stream: VideoStream | AudioStream) -> float:
    """Length of the samples in a file of this size, s; 0 for codecs where the size does not determine it."""
    context = stream.codec_context
    if context is None or not context.name.startswith("pcm_") or not context.bit_rate:
        return 0.0
    return 8 * container.size / context.bit_rate
