"""What a file is, without reading all of it: its header and, for the picture's rotation, its first frame."""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmattn.errors import MediaError
from mmattn.media.open import Deadline, Limits, open_container
from mmattn.media.source import Source, name_of
from mmattn.media.streams import choose, is_encrypted

_LOOK_PACKETS = 256  # a picture not seen by then leaves its rotation unknown, taken as 0


@dataclass(frozen=True)
class VideoInfo:
    """The picture as stored; `rotation` in degrees counter-clockwise makes it upright."""

    codec: str
    width: int
    height: int
    fps: float | None
    rotation: int
    pixel_format: str | None


@dataclass(frozen=True)
class AudioInfo:
    """The sound as stored; `rate` in Hz."""

    codec: str
    rate: int
    channels: int


@dataclass(frozen=True)
class MediaInfo:
    """`duration` in s as the header tells it, None where it does not. A missing modality is None."""

    container: str
    duration: float | None
    video: VideoInfo | None
    audio: AudioInfo | None
    issues: tuple[str, ...] = ()


def probe(
    src: Source,
    *,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> MediaInfo:
    """Describe the streams of `src` that read_clip would read. Cover art is not a picture.

    Raises MediaError as read_clip does for what the header and the first packets show.
    """
    deadline = Deadline(name_of(src), deadline_s)
    with open_container(src, limits=limits, deadline=deadline, follow_symlinks=follow_symlinks) as container:
        chosen = choose(container, deadline.path)
        first = _first_picture(container, chosen.video, chosen.audio, deadline)
        return MediaInfo(
            container=container.format.name,
            duration=container.duration / av.time_base if container.duration else None,
            video=_video_info(chosen.video, first) if chosen.video is not None else None,
            audio=_audio_info(chosen.audio) if chosen.audio is not None else None,
            issues=chosen.issues,
        )


def _first_picture(
    container: InputContainer, video: VideoStream | None, audio: AudioStream | None, deadline: Deadline
) -> VideoFrame | None:
    """The first frame if the first packets hold one; each stream's first packet is checked for encryption."""
    unseen = {stream.index for stream in (video, audio) if stream is not None}
    frame = None
    for count, packet in enumerate(container.demux([s for s in (video, audio) if s is not None])):
        deadline.check()
        if is_encrypted(packet):
            raise MediaError(deadline.path, "unsupported_codec", f"the {packet.stream.type} stream is encrypted")
        unseen.discard(packet.stream.index)
        if video is not None and frame is None and packet.stream.index == video.index:
            try:
                frame = next((f for f in packet.decode() if isinstance(f, VideoFrame)), None)
            except (FFmpegError, ValueError):
                continue  # read_clip reports bad packets; here only a header is described
        if count >= _LOOK_PACKETS or (not unseen and (video is None or frame is not None)):
            break
    return frame


def _video_info(stream: VideoStream, first: VideoFrame | None) -> VideoInfo:
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    return VideoInfo(
        codec=context.name,
        width=context.width,
        height=context.height,
        fps=float(rate) if rate else None,
        rotation=round(first.rotation / 90) * 90 % 360 if first is not None else 0,
        pixel_format=context.pix_fmt,
    )


def _audio_info(stream: AudioStream) -> AudioInfo:
    context = stream.codec_context
    return AudioInfo(codec=context.name, rate=context.sample_rate or 0, channels=context.layout.nb_channels)
