"""Which picture and which sound of a file are meant, and where its clock starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import av
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mmattn.errors import MediaError
from mmattn.media.open.clock_jumps import Splice, clocked, may_jump

AnyStream = VideoStream | AudioStream
_HEADED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "wav")  # durations are not guesses
_UNFILLED = 1 << 30  # frames that FFmpeg declares in AVI until it knows how many there are
_S = TypeVar("_S", VideoStream, AudioStream)


@dataclass(frozen=True)
class Chosen:
    """The streams that are decoded; None = absent. `origin` is t = 0 in the container's time, in s."""

    video: VideoStream | None
    audio: AudioStream | None
    origin: float
    issues: tuple[str, ...]


def choose(
    container: InputContainer, path: str, video_stream: int | None = None, audio_stream: int | str | None = None
) -> Chosen:
    """The picture and sound stream that were asked for, by index or (sound) language; None = FFmpeg's best.

    The best is one with a decoder, and cover art is not a picture. The clock's origin is the earlier start of the two,
    whichever of them is decoded later on. Raises MediaError: no_streams, or unsupported_codec where no stream, or not
    the one asked for, has a decoder, and for a still picture in tiles.
    """
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    sounds = list(container.streams.audio)
    if not pictures and not sounds and video_stream is None:
        raise MediaError(path, "no_streams", f"none of them picture or sound: {_listing(container)}")
    if tiles := sum(bool(s.disposition & Disposition.dependent) for s in pictures):
        raise MediaError(path, "unsupported_codec", f"a picture cut into {tiles} tiles, each a stream of its own")
    video = _best(container.streams.best("video"), pictures)
    audio = _best(container.streams.best("audio"), sounds)
    if video_stream is not None:
        video = _asked(container, path, "video", container.streams.video, video_stream)
    if audio_stream is not None:
        audio = _asked(container, path, "audio", sounds, audio_stream)
    if video is None and audio is None:
        raise MediaError(path, "unsupported_codec", f"no decoder for any of {_listing(container)}")
    issues = ["no_video_decoder"] * (video is None and bool(pictures))
    issues += ["no_audio_decoder"] * (audio is None and bool(sounds))
    starts = [start_of(stream) for stream in (video, audio) if stream is not None]
    return Chosen(video, audio, min((s for s in starts if s is not None), default=0.0), tuple(issues))


def _best(favourite: Stream | None, candidates: Sequence[_S]) -> _S | None:
    """The favourite if it is a candidate with a decoder, else the first that is."""
    decodable = [stream for stream in candidates if stream.codec_context is not None]
    return next((s for s in decodable if favourite and s.index == favourite.index), next(iter(decodable), None))


def _asked(container: InputContainer, path: str, kind: str, candidates: Sequence[_S], wanted: int | str) -> _S:
    """The stream of that index, or of that language the default one, else the first."""
    found = [s for s in candidates if wanted == s.index or (isinstance(wanted, str) and wanted.lower() == language(s))]
    if not found:
        raise MediaError(path, "no_streams", f"no {kind} stream {wanted}; it has {_listing(container)}")
    decodable = [stream for stream in found if stream.codec_context is not None]
    if not decodable:
        raise MediaError(path, "unsupported_codec", f"no decoder for {kind} stream {wanted} of {_listing(container)}")
    return next((s for s in decodable if s.disposition & Disposition.default), decodable[0])


def language(stream: Stream) -> str | None:
    """As the file says, e.g. "eng"; None where it says nothing or "und"."""
    said = " ".join((stream.language or "").split()).lower()[:16]
    return said if said not in ("", "und") else None


def codec_name(stream: Stream) -> str | None:
    """FFmpeg's name of the codec, whichever decoder is used; None where there is no decoder."""
    return None if stream.codec_context is None else stream.codec_context.codec.canonical_name


_LISTED = 8  # streams named in a message


def _listing(container: InputContainer) -> str:
    """ "0 video h264, 1 audio aac eng"."""
    told = [
        " ".join(filter(None, (str(s.index), s.type or "unknown", codec_name(s), language(s))))
        for s in list(container.streams)[:_LISTED]
    ]
    more = len(container.streams) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "") or "no streams"


def time_base(stream: AnyStream) -> float:
    """Seconds a tick."""
    return float(stream.time_base) if stream.time_base else 1e-6


def start_of(stream: AnyStream) -> float | None:
    """The stream's first presentation time as the container tells it, s."""
    return None if stream.start_time is None else stream.start_time * time_base(stream)


def declared_end(stream: AnyStream, origin: float) -> float | None:
    """When the header says that the stream ends, s from the origin; None where no header says so."""
    start = start_of(stream)
    if not stream.duration or start is None:
        return None
    return start + stream.duration * time_base(stream) - origin


def frame_seconds(stream: VideoStream) -> float:
    """How long one frame is shown by the stream's nominal rate, s; 1/25 where it names none."""
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 0.04


def cut_off(container: InputContainer, chosen: Chosen, reached: dict[int, float]) -> bool:
    """Whether the packets ended well before the header says. `reached`: stream index -> end of its last packet, s."""
    if container.format.name not in _HEADED or any(stream.frames >= _UNFILLED for stream in container.streams):
        return False
    offset = max(chosen.origin, 0.0)  # some headers count the duration from 0, not from the first stamp
    streams = [stream for stream in (chosen.video, chosen.audio) if stream is not None]
    checks = []
    if all(stream.index in reached for stream in streams):
        checks = [(max(reached.values(), default=0.0), (container.duration or 0) / av.time_base)]
    for stream in streams:
        declared = declared_end(stream, chosen.origin)
        if declared is not None and stream.index in reached:
            checks += [(reached[stream.index], declared)]
    return any(end + offset < declared - max(0.5, 0.05 * declared) for end, declared in checks)


def demux(container: InputContainer, *streams: Stream, issues: set[str] | None = None) -> Iterator[Packet]:
    """The packets of `streams`, of all without any, then an empty one for each; on a clock that never jumps.

    Where the container cannot be read on, the packets end: `issues` gets "read_error". Where its clock jumps and is
    made to run on: "clock_jump". Raises FFmpegError if nothing at all can be read.
    """
    issues = set() if issues is None else issues
    splice, asked = None, streams
    if may_jump(container):  # then the other streams tell too where a part begins
        splice, beside = Splice(), clocked(container)
        asked = (*streams, *(s for s in beside if s.index not in {stream.index for stream in streams}))
        asked = asked if streams else ()
    wanted, count = {stream.index for stream in streams or container.streams}, 0
    # PyAV's own generator keeps about 150 bytes for good where it is dropped before its end (18.1), so it is closed.
    with closing(container.demux(*asked)) as packets:  # type: ignore[type-var]
        try:
            for packet in packets:
                count += bool(packet.size)
                if splice is not None and packet.size:
                    splice.place(packet)
                    if splice.jumped:
                        issues.add("clock_jump")
                if packet.stream.index in wanted:  # stream_index is wrong on the packets that end a stream
                    yield packet
            return
        except MemoryError:
            raise
        except FFmpegError:
            if not count:
                raise
            issues.add("read_error")
    for stream in streams or container.streams:  # what the decoders hold back
        flush = Packet()
        flush.stream = stream
        yield flush


def is_encrypted(packet: Packet) -> bool:
    """Encrypted samples decode to noise without any error, so this is the only sign."""
    return packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info")
