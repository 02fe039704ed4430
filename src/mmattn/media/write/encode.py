"""An image or audio as the bytes of a file: JPEG; FLAC or WAV, mono, 16 bits. Equal input gives equal bytes."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from typing import Literal, cast, get_args

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags as CodecFlags
from av.container.core import Flags as ContainerFlags

AudioFormat = Literal["flac", "wav"]
AUDIO_FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)


def encode_image(image: np.ndarray, quality: int) -> bytes:
    """`image` (H, W, 3) uint8 RGB as JPEG of `quality` 1 to 100, chroma at half the resolution."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def encode_audio(waveform: np.ndarray, sample_rate: int, kind: AudioFormat) -> bytes:
    """`waveform` (N > 0,) float32 at `sample_rate` Hz as a file; values outside [-1, 1] are clipped."""
    samples = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
    return _flac(samples, sample_rate) if kind == "flac" else _wav(samples, sample_rate)


def _wav(samples: np.ndarray, sample_rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def _flac(samples: np.ndarray, sample_rate: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        container.flags |= ContainerFlags.bitexact.value
        stream = cast(AudioStream, container.add_stream("flac", rate=sample_rate))
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "s16"
        stream.codec_context.time_base = Fraction(1, sample_rate)
        stream.codec_context.flags |= CodecFlags.bitexact.value
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = sample_rate, Fraction(1, sample_rate), 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return file.getvalue()
