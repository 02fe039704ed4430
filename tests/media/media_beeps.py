"""Files of beeps at known times, in any container that FFmpeg writes, and where the beeps are heard."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SECONDS = 8.0
BEEPS = np.arange(0.31, SECONDS - 0.2, 0.2137)  # s; no multiple of any frame or tick
_WIDTH_S, _HERTZ = 0.002, 1500.0


def beep(times: np.ndarray) -> np.ndarray:
    """One beep around time 0."""
    return np.exp(-((times / _WIDTH_S) ** 2)) * np.cos(2 * np.pi * _HERTZ * times)


def beeps(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """(N,) float32: beeps over a low hum, so that no stretch is silence."""
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.02 * np.sin(2 * np.pi * 220 * times)
    for at in BEEPS[seconds > BEEPS]:
        wave += 0.7 * beep(times - at)
    return wave.astype(np.float32)


def heard_at(wave: np.ndarray, rate: int, at: float, within: int = 200) -> int | None:
    """How many samples after `at` s a beep is heard, looked for `within` samples around; None where it is cut."""
    half, middle = round(0.006 * rate), round(at * rate)
    low, high = middle - half - within, middle + half + within + 1
    if low < 0 or high > len(wave):
        return None
    shape = beep((np.arange(-half, half + 1) + middle) / rate - at)
    return int(np.correlate(wave[low:high], shape, "valid").argmax()) - within


def beep_file(path: Path, codec: str, rate: int, picture: str | None = None, seconds: float = SECONDS) -> Path:
    """Beeps in stereo, beside grey pictures of codec `picture` unless None; the container as `path` is named."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(picture, rate=25) if picture else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
            video.gop_size = 25
        options = {"strict": "-2"} if codec == "vorbis" else {}
        audio = container.add_stream(codec, rate=rate, options=options)
        audio.codec_context.layout, audio.codec_context.bit_rate = "stereo", 128000
        wave = beeps(rate, seconds)
        length = audio.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=audio.codec_context.format, layout="stereo", rate=rate)
        shown = 0
        for first in range(0, len(wave), length):
            while video is not None and shown / 25 <= first / rate:
                frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 90 + shown % 50, np.uint8), format="rgb24")
                frame.pts, frame.time_base = shown, Fraction(1, 25)
                container.mux(video.encode(frame))
                shown += 1
            part = np.repeat(wave[None, first : first + length], 2, axis=0)
            piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="stereo")
            piece.sample_rate, piece.time_base, piece.pts = rate, Fraction(1, rate), first
            for ready in resampler.resample(piece):
                container.mux(audio.encode(ready))
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode(None))
    return path


def restamped(source: Path, target: Path, moved: Callable[[float], float]) -> Path:
    """The sound's packets, each stamped `moved(its time in s)` s later."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        (stream,) = given.streams.audio
        copy = made.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.size and packet.pts is not None and packet.time_base:
                time = float(packet.pts * packet.time_base)
                packet.pts += round(moved(time) / packet.time_base)
                packet.dts, packet.stream = packet.pts, copy
                made.mux(packet)
    return target


def decoded_plainly(path: Path) -> tuple[np.ndarray, float, int]:
    """FFmpeg's own decoding, frame after frame: (N,) mean of the channels, the first frame's time on the file's clock
    in s, and the rate."""
    parts, first, rate = [], None, 0
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        starts = [s.start_time * s.time_base for s in container.streams if s.start_time is not None and s.time_base]
        for frame in container.decode(stream):
            if first is None:
                first = float((frame.pts or 0) * frame.time_base - min(starts, default=0))
            rate = frame.sample_rate
            parts.append(
                av.AudioResampler(format="fltp", layout=frame.layout, rate=rate).resample(frame)[0].to_ndarray()
            )
    assert first is not None
    return np.concatenate(parts, axis=1).mean(axis=0), first, rate
