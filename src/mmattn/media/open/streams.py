"""Which video and audio stream of a file is read, and where its clock starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mmattn.errors import MediaError

AnyStream = VideoStream | AudioStream
_S = TypeVar("_S", VideoStream, AudioStream)


@dataclass(frozen=True)
class Chosen:
    """The streams that are decoded; None = absent. `origin`: t = 0 on the container's clock, s."""

    video: VideoStream | None
    audio: AudioStream | None
    origin: float
    issues: tuple[str, ...]

    @property
    def streams(self) -> list[VideoStream | AudioStream]:
        """Those that are present, the video first."""
        return [stream for stream in (self.video, self.audio) if stream is not None]


def choose(
    container: InputContainer, path: str, video_stream: int | None = None, audio_stream: int | str | None = None
) -> Chosen:
    """The video and audio stream with the given index or (audio) language; None takes FFmpeg's best with a decoder.

    Cover art is not a video. The clock's origin is the earlier start of the two, whichever of them is decoded later.
    Raises MediaError: no_streams, or unsupported_codec where no stream, or not the requested one, has a decoder, and
    for a still image in tiles.
    """
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    audios = list(container.streams.audio)
    if not videos and not audios and video_stream is None:
        raise MediaError(path, "no_streams", f"no video or audio stream in the file: {_listing(container)}")
    if tiles := sum(bool(s.disposition & Disposition.dependent) for s in videos):
        raise MediaError(path, "unsupported_codec", f"an image in {tiles} tiles, each a stream of its own")
    video = _best(container.streams.best("video"), videos)
    audio = _best(container.streams.best("audio"), audios)
    if video_stream is not None:
        video = _requested(container, path, "video", container.streams.video, video_stream)
    if audio_stream is not None:
        audio = _requested(container, path, "audio", audios, audio_stream)
    if video is None and audio is None:
        raise MediaError(path, "unsupported_codec", f"no decoder for any of {_listing(container)}")
    issues = ["no_video_decoder"] * (video is None and bool(videos))
    issues += ["no_audio_decoder"] * (audio is None and bool(audios))
    starts = [start_of(stream) for stream in (video, audio) if stream is not None]
    return Chosen(video, audio, min((s for s in starts if s is not None), default=0.0), tuple(issues))


def _best(favourite: Stream | None, candidates: Sequence[_S]) -> _S | None:
    """The favourite if it is a candidate with a decoder, else the first candidate with one."""
    decodable = [stream for stream in candidates if stream.codec_context is not None]
    return next((s for s in decodable if favourite and s.index == favourite.index), next(iter(decodable), None))


def _requested(container: InputContainer, path: str, kind: str, candidates: Sequence[_S], wanted: int | str) -> _S:
    """The stream with that index; of those in that language the default one, else the first."""
    found = [s for s in candidates if wanted == s.index or (isinstance(wanted, str) and wanted.lower() == language(s))]
    if not found:
        raise MediaError(path, "no_streams", f"no {kind} stream {wanted}; it has {_listing(container)}")
    decodable = [stream for stream in found if stream.codec_context is not None]
    if not decodable:
        raise MediaError(path, "unsupported_codec", f"no decoder for {kind} stream {wanted} of {_listing(container)}")
    return next((s for s in decodable if s.disposition & Disposition.default), decodable[0])


def language(stream: Stream) -> str | None:
    """The stream's language as tagged in the file, such as "eng"; None for no tag and for "und"."""
    tag = " ".join((stream.language or "").split()).lower()[:16]
    return tag if tag not in ("", "und") else None


def codec_name(stream: Stream) -> str | None:
    """FFmpeg's name of the codec, whichever decoder is used; None without a decoder."""
    return None if stream.codec_context is None else stream.codec_context.codec.canonical_name


_LISTED = 8  # streams named in a message


def _listing(container: InputContainer) -> str:
    """The streams for a message, such as '0 video h264, 1 audio aac eng'."""
    listed = [
        " ".join(filter(None, (str(s.index), s.type or "unknown", codec_name(s), language(s))))
        for s in list(container.streams)[:_LISTED]
    ]
    more = len(container.streams) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "") or "no streams"


def time_base(stream: AnyStream) -> float:
    """Seconds a tick of the stream's stamps."""
    return float(stream.time_base) if stream.time_base else 1e-6


def start_of(stream: AnyStream) -> float | None:
    """The stream's first presentation time by the container, s; None where it is unknown."""
    return None if stream.start_time is None else stream.start_time * time_base(stream)
