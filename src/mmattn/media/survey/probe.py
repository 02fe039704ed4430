"""Describe a file without decoding all of it: its header, the first frame of each video stream, and its length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits, open_container
from mmattn.media.open.extent import extent
from mmattn.media.open.packets import demux, is_encrypted
from mmattn.media.open.source import Source, name_of
from mmattn.media.open.streams import Chosen, choose, codec_name, language
from mmattn.media.open.trust import trusted_duration
from mmattn.media.read.frames import pixel_aspect
from mmattn.media.read.request import check_streams
from mmattn.media.read.video.orientation import Orientation, orientation
from mmattn.media.read.video.render import shown_size
from mmattn.media.read.video.tone_map import transfer

_LOOK_PACKETS = 256  # a video without a frame by then has an unknown rotation, taken as 0
_INTERLACED = range(2, 6)  # AVFieldOrder: 0 unknown, 1 progressive, then the four orders of two fields


@dataclass(frozen=True)
class StreamInfo:
    """One stream as stored. `codec` None: no decoder for it. `kind`: video, audio, subtitle, data, attachment."""

    index: int
    kind: str
    codec: str | None
    language: str | None
    default: bool


@dataclass(frozen=True)
class VideoInfo(StreamInfo):
    """A video stream. To show it upright, turn it by `rotation` degrees counter-clockwise, then flip it if `mirrored`.

    `width`, `height` as stored; `pixel_aspect`: width over height of a stored pixel. `hdr`: its transfer function, "pq"
    or "hlg".
    """

    width: int
    height: int
    fps: float | None
    pixel_aspect: float
    rotation: int
    mirrored: bool
    pixel_format: str | None
    bit_depth: int | None
    hdr: str | None
    interlaced: bool
    attached_picture: bool

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of the upright frame with square pixels."""
        return shown_size(max(self.width, 1), max(self.height, 1), self.pixel_aspect, self.rotation % 180 != 0)


@dataclass(frozen=True)
class AudioInfo(StreamInfo):
    """An audio stream. `rate` in Hz; `layout` such as "mono", "stereo", "5.1"."""

    rate: int
    channels: int
    layout: str


@dataclass(frozen=True)
class MediaInfo:
    """A file. `duration` in s: by the header, or measured from the packets where the header may be a guess.

    `video` and `audio`: the streams that read_clip reads; a missing modality is None.
    """

    container: str
    duration: float
    video: VideoInfo | None
    audio: AudioInfo | None
    streams: tuple[StreamInfo, ...]
    issues: tuple[str, ...] = ()


def probe(
    src: Source,
    *,
    video_stream: int | None = None,
    audio_stream: int | str | None = None,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> MediaInfo:
    """Describe the streams of `src` and which of them read_clip, given the same choice, would read.

    Raises MediaError as read_clip does for what the header and the first packets show.
    """
    check_streams(video_stream, audio_stream)
    deadline = Deadline(name_of(src), deadline_s)
    with open_container(src, limits=limits, deadline=deadline, follow_symlinks=follow_symlinks) as container:
        chosen = choose(container, deadline.path, video_stream, audio_stream)
        firsts = _first_frames(container, chosen, deadline)
        streams = tuple(_describe(stream, firsts.get(stream.index)) for stream in container.streams)
        by_index = {info.index: info for info in streams}
        video = by_index[chosen.video.index] if chosen.video is not None else None
        audio = by_index[chosen.audio.index] if chosen.audio is not None else None
        assert isinstance(video, VideoInfo | None) and isinstance(audio, AudioInfo | None)
        declared = trusted_duration(container)
        info = MediaInfo(
            container=container.format.name,
            duration=declared or 0.0,
            video=video,
            audio=audio,
            streams=streams,
            issues=chosen.issues,
        )
    if declared is not None:
        return info
    found = extent(src, limits or Limits(), deadline, follow_symlinks, (video_stream, audio_stream))
    return replace(info, duration=found.end)


def _first_frames(container: InputContainer, chosen: Chosen, deadline: Deadline) -> dict[int, VideoFrame]:
    """Stream index -> first frame, where the first packets hold one.

    Raises MediaError if one of the chosen streams is encrypted.
    """
    videos = {s.index for s in container.streams.video if s.codec_context is not None}
    wanted = chosen.streams
    unseen = {stream.index for stream in wanted}
    firsts: dict[int, VideoFrame] = {}
    for count, packet in enumerate(demux(container, *_decodable(container, chosen.audio), deadline=deadline)):
        index = packet.stream.index
        if is_encrypted(packet) and any(stream.index == index for stream in wanted):
            raise MediaError(deadline.path, "unsupported_codec", f"the {packet.stream.type} stream is encrypted")
        unseen.discard(index)
        if index in videos and index not in firsts:
            try:
                frame = next((f for f in packet.decode() if isinstance(f, VideoFrame)), None)
            except (FFmpegError, ValueError):
                continue  # read_clip reports bad packets; this only describes the header
            if frame is not None:
                firsts[index] = frame
        if count >= _LOOK_PACKETS or (not unseen and firsts.keys() >= videos):
            break
    return firsts


def _decodable(container: InputContainer, audio: AudioStream | None) -> Sequence[Stream]:
    videos = [stream for stream in container.streams.video if stream.codec_context is not None]
    return [*videos, *([audio] if audio is not None else [])]


def _describe(stream: Stream, first: VideoFrame | None) -> StreamInfo:
    common = (
        stream.index,
        stream.type or "unknown",
        codec_name(stream),
        language(stream),
        bool(stream.disposition & Disposition.default),
    )
    if stream.codec_context is None:
        return StreamInfo(*common)
    if isinstance(stream, VideoStream):
        return _video_info(common, stream, first)
    if isinstance(stream, AudioStream):
        context = stream.codec_context
        return AudioInfo(*common, context.sample_rate or 0, context.layout.nb_channels, context.layout.name)
    return StreamInfo(*common)


def _video_info(common: tuple, stream: VideoStream, first: VideoFrame | None) -> VideoInfo:
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    turned = Orientation() if first is None else orientation(first)
    fields = context.field_order if first is None else 2 * first.interlaced_frame
    return VideoInfo(
        *common,
        width=context.width,
        height=context.height,
        fps=float(rate) if rate else None,
        pixel_aspect=pixel_aspect(stream),
        rotation=90 * turned.turns,
        mirrored=turned.mirrored,
        pixel_format=context.pix_fmt,
        bit_depth=max((part.bits for part in context.format.components), default=None) if context.format else None,
        hdr=transfer(first.color_trc if first is not None else context.color_trc),
        interlaced=fields in _INTERLACED,
        attached_picture=bool(stream.disposition & Disposition.attached_pic),
    )
