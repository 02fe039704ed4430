"""A scene becomes a waveform. Shape legend: N samples of the clip, n samples of one event."""

from __future__ import annotations

import numpy as np

from mmattn.data.avshapes.scene import SAMPLE_RATE, SAMPLES, Scene, Sound, stream

ATTACK = 0.004  # s
RELEASE = 0.03  # s
CLICKS = 5  # in one event
CLICK_DECAY = 0.003  # s
HISS_RMS = 0.018  # of full scale, of the strongest rain
HUM_RMS = 0.045  # of full scale, of the strongest engine
HUM_HARMONICS = 6


def render_audio(scene: Scene) -> np.ndarray:
    """The waveform (N,) float32 in [-1, 1] at `SAMPLE_RATE`. Each event starts at the time of its slot."""
    rng = stream(scene.seed, scene.index, 2)
    around = scene.surroundings
    waveform = around.hush * rng.standard_normal(SAMPLES)
    if around.rain:
        hiss = _band_noise(rng, SAMPLES, 1000, 7500)
        waveform += HISS_RMS * around.rain_strength * hiss
    if around.engine:
        waveform += _hum(around.engine_hz, around.throb_hz, around.throb_phase) * around.engine_strength
    for time, accent in zip(scene.times(scene.sound.slots), scene.sound.accents, strict=True):
        start = round(time * SAMPLE_RATE)
        event = _event(rng, scene.sound)[: SAMPLES - start]
        waveform[start : start + len(event)] += scene.sound.loudness * accent * event
    return np.clip(waveform, -0.98, 0.98).astype(np.float32)


def _event(rng: np.random.Generator, sound: Sound) -> np.ndarray:
    """One event (n,) with a peak of 1."""
    t = np.arange(round(sound.seconds * SAMPLE_RATE)) / SAMPLE_RATE
    envelope = np.minimum(1, t / ATTACK) * np.minimum(1, (sound.seconds - t) / RELEASE)
    match sound.timbre:
        case "beep":
            turns = sound.base_hz * t
            event = envelope * (np.sin(2 * np.pi * turns) + 0.3 * np.sin(4 * np.pi * turns))
        case "chirp":  # an octave, half of it on either side of the base frequency
            octaves = (t / sound.seconds - 0.5) * (1 if sound.rising else -1)
            event = envelope * np.sin(2 * np.pi * np.cumsum(sound.base_hz * 2**octaves) / SAMPLE_RATE)
        case "noise":
            event = envelope * _band_noise(rng, len(t), sound.base_hz / 1.6, sound.base_hz * 1.6)
        case "click":
            since = t % (sound.seconds / CLICKS)
            event = np.exp(-since / CLICK_DECAY) * np.sin(2 * np.pi * sound.base_hz * since)
        case _:
            raise ValueError(f"no such timbre: {sound.timbre}")
    return event / np.abs(event).max()


def _band_noise(rng: np.random.Generator, samples: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Noise (samples,) with a root mean square of 1 and nothing outside the band."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * ((hz >= low_hz) & (hz <= high_hz)), samples)
    return noise / np.sqrt(np.mean(noise**2))


def _hum(hz: float, throb_hz: float, throb_phase: float) -> np.ndarray:
    """An engine's hum (N,), louder and softer with its throb."""
    t = np.arange(SAMPLES) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * hz * k * t + k * k) / k for k in range(1, HUM_HARMONICS + 1))
    throb = 0.75 + 0.25 * np.cos(2 * np.pi * (throb_hz * t + throb_phase))
    hum = tones * throb
    return HUM_RMS * hum / np.sqrt(np.mean(hum**2))
