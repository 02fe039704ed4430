"""What one file holds, measured: what its header says, what its packets are, what is seen and heard in it.

Three depths. "header": probe. "sample": also a pass over all packets without decoding, a few pictures over the whole
length, and all of the sound where it is short, else a few spans of it. "full": also every picture and every sound
decoded, one at a time, so that a long file takes no more memory than a short one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.video.frame import VideoFrame

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits, open_container
from mmattn.media.open.source import Source, name_of
from mmattn.media.open.streams import choose, cut_off, demux, frame_seconds, is_encrypted, time_base
from mmattn.media.read.audio.downmix import mono
from mmattn.media.read.decode import decode
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Renderer
from mmattn.media.survey.measures import PICTURE_SIZE, Heard, PacketTimes, Seen, picture_hash, sound_hash
from mmattn.media.survey.probe import MediaInfo, probe
from mmattn.media.survey.record import Depth, Survey

_PICTURES = 8  # looked at in a sample, evenly spread
_HEARD_S = 30.0  # sound up to this long is heard whole
_SPANS, _SPAN_S = 6, 5.0  # of longer sound


def survey(
    src: Source,
    depth: Depth,
    *,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Survey:
    """Survey `src`. Raises MediaError if not even its header can be read; what fails later is in `reason`."""
    name = name_of(src)
    looking = _Looking(src, limits or Limits(), Deadline(name, deadline_s), follow_symlinks)
    info = probe(src, limits=limits, deadline_s=deadline_s, follow_symlinks=follow_symlinks)
    found = _header(info)
    if depth == "header":
        return found
    try:
        packets = looking.at_packets()
        found = replace(found, **packets.told(), issues=_union(found.issues, packets.issues))
        seen, heard, issues = looking.at_sample(info, packets)
        if depth == "full":
            issues |= looking.at_everything(seen, heard)
        found = replace(found, **seen.told(), **heard.told(), issues=_union(found.issues, issues))
        if not seen.count and not heard.seconds:
            reason = "unsupported_codec" if "bad_packets" in issues else "truncated"
            raise MediaError(name, reason, "nothing of it could be decoded")
    except MediaError as error:
        return replace(found, reason=error.reason, detail=error.detail)
    return found


def _union(issues: tuple[str, ...], others: set[str]) -> tuple[str, ...]:
    return tuple(
        sorted({*issues, *others} - {"silent_audio", "rotated", "mirrored"})
    )  # measured here, and in the header


def _header(info: MediaInfo) -> Survey:
    video, audio = info.video, info.audio
    found = Survey(info.container, len(info.streams), info.duration, issues=info.issues)
    if video is not None:
        found = replace(
            found,
            video_codec=video.codec,
            width=video.width,
            height=video.height,
            fps=video.fps,
            pixel_aspect=video.pixel_aspect,
            rotation=video.rotation,
            mirrored=video.mirrored,
            pixel_format=video.pixel_format,
        )
    if audio is not None:
        found = replace(found, audio_codec=audio.codec, sample_rate=audio.rate, channels=audio.channels)
    return found


@dataclass(frozen=True)
class _Looking:
    """One file, and how far looking at it may go."""

    src: Source
    limits: Limits
    deadline: Deadline
    follow_symlinks: bool

    def open(self):
        return open_container(
            self.src, limits=self.limits, deadline=self.deadline, follow_symlinks=self.follow_symlinks
        )

    def at_packets(self) -> PacketTimes:
        """Every packet's time; nothing is decoded."""
        packets, reached = PacketTimes(), {}
        with self.open() as container:
            chosen = choose(container, self.deadline.path)
            streams = [stream for stream in (chosen.video, chosen.audio) if stream is not None]
            ticks = {stream.index: time_base(stream) for stream in streams}
            nominal = frame_seconds(chosen.video) if chosen.video is not None else 0.0
            packets.tick = ticks[chosen.video.index] if chosen.video is not None else 0.0
            for packet in demux(container, *streams, issues=packets.issues):
                self.deadline.check()
                if is_encrypted(packet):
                    detail = f"the {packet.stream.type} stream is encrypted"
                    raise MediaError(self.deadline.path, "unsupported_codec", detail)
                if packet.pts is None or not packet.size or packet.is_discard:
                    continue
                kind, tick = packet.stream.type, ticks[packet.stream.index]
                length = (packet.duration or 0) * tick or (nominal if kind == "video" else 0.0)
                packets.add(kind, packet.pts * tick - chosen.origin, length)
                reached[packet.stream.index] = packets.ends[kind]
            if reached and cut_off(container, chosen, reached):
                packets.issues.add("truncated")
        return packets

    def at_sample(self, info: MediaInfo, packets: PacketTimes) -> tuple[Seen, Heard, set[str]]:
        """A few pictures over the whole length, and the sound, or spans of it."""
        seen, heard, issues = Seen(), Heard(), set()
        has_video, has_audio = info.video is not None, info.audio is not None
        times = packets.pictures(_PICTURES) or (0.0,)
        sound_end = packets.ends.get("audio", 0.0)
        short = sound_end <= _HEARD_S
        questions = (
            [Request(times=times, size=PICTURE_SIZE, audio=has_audio and short, downmix="mean")] if has_video else []
        )
        if has_audio and short and not has_video:
            questions = [Request(video=False, downmix="mean")]
        if has_audio and not short:
            starts = packets.sounds(_SPANS, sound_end - _SPAN_S)
            questions += [Request(start=s, end=s + _SPAN_S, video=False, downmix="mean") for s in starts]
        sounds = []
        for request in questions:
            clip = decode(request, self.src, self.limits, self.deadline.seconds, self.follow_symlinks)
            self.deadline.check()
            issues |= set(clip.issues)
            images = list(clip.frames.transpose(0, 2, 3, 1)) if clip.frames is not None else []
            for image in images:
                seen.add(image)
            seen.hashes += [picture_hash(image) for image in images[1::2] or images[:1]]
            if clip.waveform is not None:
                heard.add(clip.waveform, clip.sample_rate)
                sounds.append(clip.waveform)
        issues -= {"no_frames"} if seen.count else set()  # of one span, and there are others
        issues -= {"no_samples"} if heard.seconds else set()
        heard.hash = sound_hash(np.concatenate(sounds)) if sounds else None
        return seen, heard, issues

    def at_everything(self, seen: Seen, heard: Heard) -> set[str]:
        """Decode it all. What the sample showed stays in the measures, its amount does not."""
        seen.count, heard.seconds = 0, 0.0
        issues, render = set(), Renderer(PICTURE_SIZE, "stretch")
        with self.open() as container:
            chosen = choose(container, self.deadline.path)
            streams = [stream for stream in (chosen.video, chosen.audio) if stream is not None]
            for packet in demux(container, *streams, issues=issues):
                self.deadline.check()
                if packet.size == 0 and packet.dts is not None:
                    continue
                try:
                    for frame in packet.decode():
                        if isinstance(frame, VideoFrame):
                            seen.add(render(frame))
                        elif isinstance(frame, AudioFrame) and frame.sample_rate:
                            heard.add(mono(frame), frame.sample_rate)
                except MemoryError:
                    raise
                except (FFmpegError, ValueError):
                    issues.add("bad_packets")
        return issues | render.issues
