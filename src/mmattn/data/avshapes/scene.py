"""The random content of one clip, as data. Labels are derived from it, never drawn.

Notable choice, the synergy: time is cut into 12 slots, a random permutation of them into three schedules of four. The
left object flashes at the first, the right one at the second, and the sound follows one of the three, drawn uniformly.
The schedules are exchangeable, so the video alone (two disjoint schedules) and the audio alone (one schedule) have the
same distribution whichever the sound follows: only both together give the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SECONDS = 3.0
SIZE = 96  # pixels, both ways
FPS = 16
SAMPLE_RATE = 16000
FRAMES = int(SECONDS * FPS)
SAMPLES = int(SECONDS * SAMPLE_RATE)

SLOTS = 12
SLOT_SECONDS = SECONDS / SLOTS
SLOTS_PER_SCHEDULE = 4
FIRST_SLOT = 0.07  # s; early enough that a sound in the last slot ends inside the clip
PHASE_JITTER = 0.04  # s, either way, common to a clip
SLOT_JITTER = 0.02  # s, either way, common to flash and sound of one slot

SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue", "yellow")
MOTIONS = ("drifting", "bouncing", "swinging")
TIMBRES = ("beep", "chirp", "noise", "click")
PITCHES = ("low", "high")
SOURCES = ("left", "right", "neither")

BASE_HZ = {"low": (300.0, 480.0), "high": (1400.0, 2200.0)}


@dataclass(frozen=True)
class Thing:
    """One object in one half of the picture. Lengths in pixels, from the half's left edge and the picture's top."""

    shape: str
    colour: str
    tint: tuple[float, float, float]  # added to the colour, per channel, in 1/255
    radius: float
    motion: str
    centre: tuple[float, float]
    reach: tuple[float, float]  # largest way from the centre, x and y
    hz: float  # of the motion
    phase: float  # of the motion, in turns
    slots: tuple[int, ...]  # in which it flashes


@dataclass(frozen=True)
class Sound:
    """The events in the audio."""

    timbre: str
    pitch: str
    base_hz: float
    rising: bool  # the way a chirp goes
    seconds: float  # length of one event
    loudness: float  # peak of one event, of full scale
    accents: tuple[float, ...]  # factor of each event's loudness
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Surroundings:
    """Everything besides the objects and the events."""

    rain: bool  # streaks in the video, hiss in the audio
    engine: bool  # throbbing pipes in the video, hum in the audio
    rain_strength: float  # 0 to 1, of both
    rain_slant: float  # pixels sideways per pixel down
    engine_strength: float
    engine_hz: float  # of the hum
    throb_hz: float  # of hum and pipes
    throb_phase: float  # in turns
    top: tuple[float, float, float]  # background colour in [0, 1]
    bottom: tuple[float, float, float]
    hush: float  # root mean square of the noise under everything, of full scale


@dataclass(frozen=True)
class Scene:
    """Everything in one clip."""

    seed: int
    index: int
    slot_times: tuple[float, ...]  # s, one for each slot
    left: Thing
    right: Thing
    sound: Sound
    surroundings: Surroundings

    @property
    def source(self) -> str:
        """Whose flashes the sound is in time with: "left", "right" or "neither"."""
        if self.sound.slots == self.left.slots:
            return "left"
        return "right" if self.sound.slots == self.right.slots else "neither"

    def times(self, slots: tuple[int, ...]) -> np.ndarray:
        """The times of these slots' events in seconds."""
        return np.asarray(self.slot_times)[list(slots)]


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Random numbers of one clip for one purpose: 0 the scene, 1 the picture's texture, 2 the sound's noise."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, purpose)))


def describe(seed: int, index: int) -> Scene:
    """Draw clip `index` of the set `seed`. Every clip draws the same numbers, so that no draw depends on another."""
    rng = stream(seed, index, 0)
    order = rng.permutation(SLOTS).reshape(3, SLOTS_PER_SCHEDULE)
    schedules = [tuple(sorted(int(slot) for slot in group)) for group in order]
    times = FIRST_SLOT + SLOT_SECONDS * np.arange(SLOTS)
    times += rng.uniform(-PHASE_JITTER, PHASE_JITTER) + rng.uniform(-SLOT_JITTER, SLOT_JITTER, SLOTS)
    followed = int(rng.integers(3))
    return Scene(
        seed=seed,
        index=index,
        slot_times=tuple(float(time) for time in times),
        left=_thing(rng, schedules[0]),
        right=_thing(rng, schedules[1]),
        sound=_sound(rng, schedules[followed]),
        surroundings=_surroundings(rng),
    )


def _one_of(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _thing(rng: np.random.Generator, slots: tuple[int, ...]) -> Thing:
    radius = rng.uniform(8.0, 10.5)
    margin = 1.73 * radius + 1.5  # the corner of a flashing triangle, the farthest there is, and its soft edge
    x_room, y_room = SIZE / 4 - margin, SIZE / 2 - margin
    reach = x_room * rng.uniform(0.6, 1.0), y_room * rng.uniform(0.5, 0.9)
    centre = SIZE / 4 + (x_room - reach[0]) * rng.uniform(-1, 1), SIZE / 2 + (y_room - reach[1]) * rng.uniform(-1, 1)
    return Thing(
        shape=_one_of(rng, SHAPES),
        colour=_one_of(rng, COLOURS),
        tint=_triple(rng.uniform(-14, 14, 3)),
        radius=float(radius),
        motion=_one_of(rng, MOTIONS),
        centre=(float(centre[0]), float(centre[1])),
        reach=(float(reach[0]), float(reach[1])),
        hz=float(rng.uniform(0.8, 1.2)),
        phase=float(rng.uniform()),
        slots=slots,
    )


def _sound(rng: np.random.Generator, slots: tuple[int, ...]) -> Sound:
    pitch = _one_of(rng, PITCHES)
    low, high = BASE_HZ[pitch]
    return Sound(
        timbre=_one_of(rng, TIMBRES),
        pitch=pitch,
        base_hz=float(low * (high / low) ** rng.uniform()),
        rising=bool(rng.integers(2)),
        seconds=float(rng.uniform(0.09, 0.11)),
        loudness=float(rng.uniform(0.3, 0.6)),
        accents=tuple(float(accent) for accent in rng.uniform(0.85, 1.15, SLOTS_PER_SCHEDULE)),
        slots=slots,
    )


def _surroundings(rng: np.random.Generator) -> Surroundings:
    base = rng.uniform(0.16, 0.30) * (1 + rng.uniform(-0.25, 0.25, 3))
    return Surroundings(
        rain=bool(rng.uniform() < 1 / 3),
        engine=bool(rng.uniform() < 1 / 3),
        rain_strength=float(rng.uniform(0.5, 1.0)),
        rain_slant=float(rng.uniform(-0.3, 0.3)),
        engine_strength=float(rng.uniform(0.5, 1.0)),
        engine_hz=float(rng.uniform(82, 98)),
        throb_hz=float(rng.uniform(2.2, 3.4)),
        throb_phase=float(rng.uniform()),
        top=_triple(base * rng.uniform(0.6, 0.9)),
        bottom=_triple(base * rng.uniform(1.1, 1.4)),
        hush=float(10 ** rng.uniform(-3.6, -2.8)),
    )
