"""Measure the content of one file: its header, its packets, its video and its audio.

Three depths. "header": probe. "sample": also a pass over all packets without decoding, a few frames over the whole
length, and all of the audio where it is short, else a few spans of it. "full": also every frame and all audio decoded,
one at a time, so that a long file takes no more memory than a short one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from av.video.frame import VideoFrame

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits
from mmattn.media.open.packets import StreamClock, cut_off, demux
from mmattn.media.open.source import Source, name_of
from mmattn.media.read.audio.downmix import mono
from mmattn.media.read.decode import decode
from mmattn.media.read.passes.reading import Reading
from mmattn.media.read.passes.sequential import frames_of
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Renderer
from mmattn.media.survey.measures import (
    PICTURE_SIZE,
    AudioMeasures,
    PacketTimes,
    VideoMeasures,
    picture_hash,
    sound_hash,
)
from mmattn.media.survey.probe import MediaInfo, probe
from mmattn.media.survey.record import Depth, Survey

_FRAMES = 8  # in a sample, evenly spread
_WHOLE_AUDIO_S = 30.0  # audio up to this long is decoded whole
_SPANS, _SPAN_S = 6, 5.0  # of longer audio
_ALL = Request(frames=1)  # the best streams


def survey(
    src: Source,
    depth: Depth,
    *,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Survey:
    """Survey `src`. Raises MediaError if its header cannot be read; a later failure is recorded in `reason`."""
    name = name_of(src)
    reading = Reading(src, name, _ALL, limits or Limits(), Deadline(name, deadline_s), follow_symlinks)
    passes = _Passes(reading)
    info = probe(src, limits=limits, deadline_s=deadline_s, follow_symlinks=follow_symlinks)
    found = _header(info)
    if depth == "header":
        return found
    try:
        packets = passes.over_packets()
        found = replace(found, **packets.measures(), issues=_union(found.issues, packets.issues))
        video, audio, issues = passes.over_sample(info, packets)
        if depth == "full":
            issues |= passes.over_everything(video, audio)
        found = replace(found, **video.measures(), **audio.measures(), issues=_union(found.issues, issues))
        if not video.count and not audio.seconds:
            reason = "unsupported_codec" if "bad_packets" in issues else "truncated"
            raise MediaError(name, reason, "nothing of it could be decoded")
    except MediaError as error:
        return replace(found, reason=error.reason, detail=error.detail)
    return found


def _union(issues: tuple[str, ...], others: set[str]) -> tuple[str, ...]:
    # Silence is measured here, and the orientation is in the header.
    return tuple(sorted({*issues, *others} - {"silent_audio", "rotated", "mirrored"}))


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
class _Passes:
    """The passes over one file."""

    reading: Reading

    def over_packets(self) -> PacketTimes:
        """The time of every packet; nothing is decoded."""
        reading, packets, reached = self.reading, PacketTimes(), {}
        with reading.open() as container:
            chosen = reading.choose(container)
            streams = chosen.streams
            clocks = {stream.index: StreamClock.of(stream, chosen.origin) for stream in streams}
            packets.tick = clocks[chosen.video.index].tick if chosen.video is not None else 0.0
            for packet in reading.packets(container, *streams, issues=packets.issues):
                if packet.pts is None or not packet.size or packet.is_discard:
                    continue
                kind, clock = packet.stream.type, clocks[packet.stream.index]
                packets.add(kind, clock.time(packet.pts), clock.length(packet.duration))
                reached[packet.stream.index] = packets.ends[kind]
            if reached and cut_off(container, chosen, reached):
                packets.issues.add("truncated")
        return packets

    def over_sample(self, info: MediaInfo, packets: PacketTimes) -> tuple[VideoMeasures, AudioMeasures, set[str]]:
        """A few frames over the whole length, and all of the audio or spans of it."""
        video, audio, issues = VideoMeasures(), AudioMeasures(), set()
        waveforms, reading = [], self.reading
        for request in _sample_requests(info, packets):
            clip = decode(request, reading.src, reading.limits, reading.deadline.seconds, reading.follow_symlinks)
            reading.deadline.check()
            issues |= set(clip.issues)
            images = list(clip.frames.transpose(0, 2, 3, 1)) if clip.frames is not None else []
            for image in images:
                video.add(image)
            video.hashes += [picture_hash(image) for image in images[1::2] or images[:1]]
            if clip.waveform is not None:
                audio.add(clip.waveform, clip.sample_rate)
                waveforms.append(clip.waveform)
        issues -= {"no_frames"} if video.count else set()  # of one span, and there are others
        issues -= {"no_samples"} if audio.seconds else set()
        audio.hash = sound_hash(np.concatenate(waveforms)) if waveforms else None
        return video, audio, issues

    def over_everything(self, video: VideoMeasures, audio: AudioMeasures) -> set[str]:
        """Decode the whole file. The measures of the sample are kept, its counts are not."""
        video.count, audio.seconds = 0, 0.0
        issues, render = set(), Renderer(PICTURE_SIZE, "stretch")
        with self.reading.open() as container:
            streams = self.reading.choose(container).streams
            for packet in demux(container, *streams, deadline=self.reading.deadline, issues=issues):
                for frame in frames_of(packet, issues):
                    if isinstance(frame, VideoFrame):
                        video.add(render(frame))
                    elif frame.sample_rate:
                        audio.add(mono(frame), frame.sample_rate)
        return issues | render.issues


def _sample_requests(info: MediaInfo, packets: PacketTimes) -> list[Request]:
    """What to decode of a file for a sample of it."""
    audio_end = packets.ends.get("audio", 0.0)
    has_audio, short = info.audio is not None, audio_end <= _WHOLE_AUDIO_S
    requests = []
    if info.video is not None:
        times = packets.frame_times(_FRAMES) or (0.0,)
        requests += [Request(times=times, size=PICTURE_SIZE, audio=has_audio and short, downmix="mean")]
    elif has_audio and short:
        requests += [Request(video=False, downmix="mean")]
    if has_audio and not short:
        starts = packets.audio_times(_SPANS, audio_end - _SPAN_S)
        requests += [Request(start=s, end=s + _SPAN_S, video=False, downmix="mean") for s in starts]
    return requests
