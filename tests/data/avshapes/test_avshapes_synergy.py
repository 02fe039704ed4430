"""What each tag of AVShapes needs: picture, sound, either, or both, asserted on the labels and on rendered clips.

Every test of "tells nothing" stands beside one that the same method finds what is there, so that it could fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest

from mmattn.data.avshapes import FAMILIES, Scene, describe, render, tags
from mmattn.data.avshapes.scene import COLOURS, MOTIONS, PITCHES, SHAPES, SLOTS, TIMBRES, Surroundings, Thing

SYNERGY = [tag for tag, family in FAMILIES.items() if family == "synergy"]
SCENES = 20_000
RENDERED = 420
FALSE_ALARM = 1e-3  # of each "tells nothing" as a whole, were the seeds drawn anew


def _one_hot(value: str, names: tuple[str, ...]) -> list[float]:
    return [float(value == name) for name in names]


def _indicators(slots: list[tuple[int, ...]]) -> np.ndarray:
    """Which slots are in each schedule, (scenes, SLOTS)."""
    indicators = np.zeros((len(slots), SLOTS), np.float32)
    np.put_along_axis(indicators, np.array(slots), 1, axis=1)
    return indicators


def _pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Every slot of one with every slot of the other, (scenes, SLOTS * SLOTS)."""
    return (first[:, :, None] * second[:, None]).reshape(len(first), -1)


def _common(around: Surroundings) -> list[float]:
    return [
        around.rain,
        around.engine,
        around.rain_strength,
        around.engine_strength,
        around.throb_hz,
        around.throb_phase,
    ]


def _seen_thing(thing: Thing) -> list[float]:
    kinds = _one_hot(thing.shape, SHAPES) + _one_hot(thing.colour, COLOURS) + _one_hot(thing.motion, MOTIONS)
    return [*kinds, *thing.tint, thing.radius, *thing.centre, *thing.reach, thing.hz, thing.phase]


def _seen(scenes: list[Scene]) -> np.ndarray:
    """All that the picture is made of, with every slot of both schedules and every pair, (scenes, attributes)."""
    kinds = [
        [
            *_seen_thing(scene.left),
            *_seen_thing(scene.right),
            *_common(scene.surroundings),
            scene.surroundings.rain_slant,
            *scene.surroundings.top,
            *scene.surroundings.bottom,
            *scene.slot_times,
        ]
        for scene in scenes
    ]
    left = _indicators([scene.left.slots for scene in scenes])
    right = _indicators([scene.right.slots for scene in scenes])
    return np.hstack([kinds, left, right, _pairs(left, right), _pairs(left, left), _pairs(right, right)])


def _heard(scenes: list[Scene]) -> np.ndarray:
    """All that the sound is made of, with every slot and every pair, (scenes, attributes)."""
    kinds = [
        [
            *_one_hot(scene.sound.timbre, TIMBRES),
            *_one_hot(scene.sound.pitch, PITCHES),
            scene.sound.base_hz,
            scene.sound.rising,
            scene.sound.seconds,
            scene.sound.loudness,
            *scene.sound.accents,
            *_common(scene.surroundings),
            scene.surroundings.engine_hz,
            scene.surroundings.hush,
            *scene.slot_times,
        ]
        for scene in scenes
    ]
    slots = _indicators([scene.sound.slots for scene in scenes])
    return np.hstack([kinds, slots, _pairs(slots, slots)])


def _correlations(attributes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|r| of each attribute with each tag, (attributes, tags); 0 where an attribute never varies."""
    attributes, truth = attributes - attributes.mean(axis=0), truth - truth.mean(axis=0)
    norm = np.linalg.norm(attributes, axis=0)[:, None] * np.linalg.norm(truth, axis=0)
    return np.abs(attributes.T @ truth) / np.where(norm > 1e-9, norm, np.inf)


def _bound(comparisons: int) -> float:
    """The standard deviations that a largest of so many exceeds by chance with a probability of `FALSE_ALARM`."""
    return NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * comparisons))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [describe(11, index) for index in range(SCENES)]


@pytest.fixture(scope="module")
def synergy(scenes: list[Scene]) -> np.ndarray:
    return np.array([[tag in tags(scene) for tag in SYNERGY] for scene in scenes], float)


@pytest.mark.parametrize("sense", [_seen, _heard])
def test_no_attribute_of_one_modality_is_correlated_with_a_synergistic_tag(sense, scenes, synergy):
    r = _correlations(sense(scenes), synergy)
    bound = _bound(r.size) / math.sqrt(SCENES)
    print(f"{sense.__name__}: largest |r| {r.max():.4f} of {r.size}, bound {bound:.4f}")
    assert r.max() < bound


def test_the_same_correlation_finds_a_slot_that_is_both_seen_and_heard(scenes, synergy):
    both = _pairs(_indicators([s.left.slots for s in scenes]), _indicators([s.sound.slots for s in scenes]))
    r = _correlations(both, synergy)[:: SLOTS + 1]  # the same slot seen on the left and heard
    assert r[:, SYNERGY.index("source/left")].min() > 10 * _bound(r.size) / math.sqrt(SCENES)


def test_picture_and_sound_together_determine_every_synergistic_tag(scenes):
    for scene in scenes:
        left, right = scene.sound.slots == scene.left.slots, scene.sound.slots == scene.right.slots
        assert not (left and right)
        expected = {tag for tag, true in zip(SYNERGY, (left or right, left, right), strict=True) if true}
        assert expected == set(tags(scene)) & set(SYNERGY)


def test_the_source_and_the_independent_tags_have_their_stated_shares(scenes):
    def share(tag: str) -> float:
        return sum(tag in tags(scene) for scene in scenes) / SCENES

    stated = {"source/left": 1 / 3, "source/right": 1 / 3, "sync/in_time": 2 / 3, "weather/rain": 1 / 3}
    stated |= {"place/engine_room": 1 / 3, "colour/red": 7 / 16, "shape/square": 5 / 9, "motion/bouncing": 5 / 9}
    stated |= {"sound/beep": 1 / 4, "pitch/high": 1 / 2}
    for tag, expected in stated.items():
        assert abs(share(tag) - expected) < 5 * math.sqrt(expected * (1 - expected) / SCENES), tag


@dataclass(frozen=True)
class Rendered:
    """What is left of rendered clips. Shape legend: C clips, T frames, in the order of `FAMILIES` the G tags."""

    scores: dict[tuple[str, int], np.ndarray]  # (what, degree) -> held-out scores of a classifier for every tag, (C, G)
    truth: np.ndarray  # (C, G) bool

    def auc(self, what: str, degree: int, tag: str) -> float:
        column = list(FAMILIES).index(tag)
        return _auc(self.scores[what, degree][:, column], self.truth[:, column])

    def chance(self, tag: str, comparisons: int) -> float:
        """How far from 1/2 scores that know nothing may be: by the deviation of Mann and Whitney's statistic."""
        true = self.truth[:, list(FAMILIES).index(tag)].sum()
        false = len(self.truth) - true
        return _bound(comparisons) * math.sqrt((true + false + 1) / (12 * true * false))


def _picture_features(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness of the halves (2, T), and the features: that, colours, movement and unevenness of the wall."""
    coarse = frames[:, ::2, ::2].astype(np.float32)
    halves = np.stack([coarse[:, :, :24], coarse[:, :, 24:]])  # (2, T, 48, 24, 3)
    red, green, blue = np.moveaxis(halves, -1, 0)
    brightness = halves.mean(axis=(2, 3, 4))
    pure = [red - np.maximum(green, blue), green - np.maximum(red, blue), blue - np.maximum(red, green)]
    colours = [(kind > 60).mean(axis=(1, 2, 3)) for kind in (*pure, np.minimum(red, green) - blue)]
    moved = np.abs(np.diff(green, axis=1))[:, :, :6].mean(axis=(1, 2, 3))
    uneven = np.abs(np.diff(np.median(green[:, :, ::4], axis=2), axis=2)).mean(axis=(1, 2))
    return brightness, np.concatenate([brightness.ravel(), *colours, moved, uneven])


def _sound_features(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level in each frame's time (T,), and the features: that, and the log energy of four bands ten times a second."""
    level = np.log(np.mean(waveform.reshape(48, -1) ** 2, axis=1) + 1e-6)
    power = np.abs(np.fft.rfft(waveform.reshape(30, 1600), axis=1)) ** 2  # bins of 10 Hz
    bands = [np.log(power[:, low:high].mean(axis=1) + 1e-3) for low, high in ((5, 20), (20, 80), (80, 300), (300, 800))]
    return level, np.concatenate([level, *bands])


def _timbre_features(waveform: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Of the events: how peaked the spectrum is, how rough the loudness, how far the middle frequency moves, (3,)."""
    events = np.stack([waveform[start : start + 1440] for start in (16000 * starts).astype(int)])  # 90 ms
    power = np.abs(np.fft.rfft(events * np.hanning(1440), axis=1)) ** 2
    levels = np.sqrt((events[:, :1280].reshape(len(events), 32, 40) ** 2).mean(axis=2))  # every 2.5 ms
    halves = np.abs(np.fft.rfft(events.reshape(len(events), 2, 720), axis=2)) ** 2
    middle = (halves * np.arange(361)).sum(axis=2) / halves.sum(axis=2)
    moved = np.abs(np.log(middle[:, 1] / middle[:, 0])).mean()
    return np.array([np.log(power.max(axis=1) / power.mean(axis=1)).mean(), levels.std() / levels.mean(), moved])


def _coincidence(brightness: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Correlation over time of each half's brightness with the sound's level, (2,)."""
    return np.array([np.corrcoef(half, level)[0, 1] for half in brightness])


def _held_out_scores(features: np.ndarray, truth: np.ndarray, degree: int, folds: int = 6) -> np.ndarray:
    """Scores (C, G) of ridge regression on the features and, with degree 2, on all their pairwise products.

    The kernel (1 + x.y / d) ** degree spans just these, so the products need not be written out.
    """
    scores = np.empty(truth.shape)
    fold = np.arange(len(truth)) % folds
    for held_out in range(folds):
        train, test = fold != held_out, fold == held_out
        mean, spread = features[train].mean(axis=0), features[train].std(axis=0) + 1e-6
        x = (features - mean) / spread
        kernel = (1 + x @ x.T / x.shape[1]) ** degree
        ridge = kernel[np.ix_(train, train)] + 0.3 * np.eye(train.sum())
        target = truth[train] - truth[train].mean(axis=0)
        scores[test] = kernel[np.ix_(test, train)] @ np.linalg.solve(ridge, target)
    return scores


def _auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """The probability that a true clip scores above a false one."""
    ranks = np.argsort(np.argsort(scores)) + 1
    true, false = truth.sum(), (~truth).sum()
    return float((ranks[truth].sum() - true * (true + 1) / 2) / (true * false))


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    columns: dict[str, list[np.ndarray]] = {"picture": [], "sound": [], "timbre": [], "coincidence": []}
    described = [describe(12, index) for index in range(RENDERED)]
    for scene in described:
        frames, waveform = render(scene)
        brightness, picture = _picture_features(frames)
        level, sound = _sound_features(waveform)
        columns["picture"].append(picture)
        columns["sound"].append(sound)
        columns["timbre"].append(_timbre_features(waveform, scene.times(scene.sound.slots)))
        columns["coincidence"].append(_coincidence(brightness, level))
    truth = np.array([[tag in tags(scene) for tag in FAMILIES] for scene in described])
    features = {what: np.array(rows) for what, rows in columns.items()}
    scores = {(what, degree): _held_out_scores(features[what], truth, degree) for what in features for degree in (1, 2)}
    return Rendered(scores, truth)


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("modality", ["picture", "sound"])
def test_no_classifier_on_one_rendered_modality_finds_a_synergistic_tag(modality: str, degree: int, rendered: Rendered):
    for tag in SYNERGY:
        auc, chance = rendered.auc(modality, degree, tag), rendered.chance(tag, comparisons=12)
        print(f"{tag} from the {modality}, degree {degree}: AUC {auc:.3f}, chance reaches {0.5 + chance:.3f}")
        assert auc < 0.5 + chance


@pytest.mark.parametrize("tag", SYNERGY)
def test_the_same_classifier_finds_it_where_flash_and_sound_coincide(tag: str, rendered: Rendered):
    auc = rendered.auc("coincidence", 2, tag)
    print(f"{tag} from both: AUC {auc:.3f}")
    assert auc > 0.95


@pytest.mark.parametrize("tag", [tag for tag in FAMILIES if tag.startswith(("colour", "pitch", "weather", "place"))])
def test_the_same_classifier_finds_a_tag_in_the_modality_of_its_family_only(tag: str, rendered: Rendered):
    for modality in ("picture", "sound"):
        auc = rendered.auc(modality, 2, tag)
        print(f"{tag} ({FAMILIES[tag]}) from the {modality}: AUC {auc:.3f}")
        if FAMILIES[tag] in (modality, "redundant"):
            assert auc > 0.9
        else:
            assert auc < 0.5 + rendered.chance(tag, comparisons=6)


@pytest.mark.parametrize("tag", [f"sound/{timbre}" for timbre in TIMBRES])
def test_each_timbre_can_be_heard(tag: str, rendered: Rendered):
    auc = rendered.auc("timbre", 2, tag)
    print(f"{tag}: AUC {auc:.3f}")
    assert auc > 0.85
