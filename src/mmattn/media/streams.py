"""Which picture and which sound of a file are meant, and where its clock starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import av
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mmattn.errors import MediaError

AnyStream = VideoStream | AudioStream
_HEADED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "wav")  # durations are not guesses
_S = TypeVar("_S", VideoStream, AudioStream)


@dataclass(frozen=True)
class Chosen:
    """The streams that are decoded; None = absent. `origin` is t = 0 in the container's time, in s."""

    video: VideoStream | None
    audio: AudioStream | None
    origin: float
    issues: tuple[str, ...]


def choose(container: InputContainer, path: str) -> Chosen:
    """FFmpeg's best picture and sound stream with a decoder. Cover art is not a picture.

    The clock's origin is the earlier start of the two, whichever of them is decoded later on.
    Raises MediaError: no_streams, or unsupported_codec if no stream that is there has a decoder.
    """
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    sounds = list(container.streams.audio)
    if not pictures and not sounds:
        raise MediaError(path, "no_streams", f"{len(container.streams)} streams, none of them picture or sound")
    video = _best(container.streams.best("video"), pictures)
    audio = _best(container.streams.best("audio"), sounds)
    if video is None and audio is None:
        raise MediaError(path, "unsupported_codec", "no decoder for any of its streams")
    issues = ["no_video_decoder"] * (video is None and bool(pictures))
    issues += ["no_audio_decoder"] * (audio is None and bool(sounds))
    starts = [start_of(stream) for stream in (video, audio) if stream is not None]
    return Chosen(video, audio, min((s for s in starts if s is not None), default=0.0), tuple(issues))


def _best(favourite: Stream | None, candidates: Sequence[_S]) -> _S | None:
    """The favourite if it is a candidate with a decoder, else the first that is."""
    decodable = [stream for stream in candidates if stream.codec_context is not None]
    return next((s for s in decodable if favourite and s.index == favourite.index), next(iter(decodable), None))


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
    if container.format.name not in _HEADED:
        return False
    offset = max(chosen.origin, 0.0)  # some headers count the duration from 0, not from the first stamp
    checks = [(max(reached.values(), default=0.0), (container.duration or 0) / av.time_base)]
    for stream in (chosen.video, chosen.audio):
        declared = declared_end(stream, chosen.origin) if stream is not None else None
        if stream is not None and declared is not None and stream.index in reached:
            checks += [(reached[stream.index], declared)]
    return any(end + offset < declared - max(0.5, 0.05 * declared) for end, declared in checks)


def is_encrypted(packet: Packet) -> bool:
    """Encrypted samples decode to noise without any error, so this is the only sign."""
    return packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info")
