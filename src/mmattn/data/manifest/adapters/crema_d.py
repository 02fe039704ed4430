"""CREMA-D (Cao et al., IEEE TAC 2014): 91 actors speak twelve sentences in six emotions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource, MediaIndex, existing_folder
from mmattn.errors import UsageError

_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)")
_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
_ACTORS = [str(number) for number in range(1001, 1092)]


@dataclass(frozen=True, kw_only=True)
class CremaDSource(AnnotatedSource):
    """The labels are in the file names: 1001_DFA_ANG_XX is actor, sentence, emotion and level.

    The set has no split of its own. Used is that of TensorFlow Datasets' `crema_d`, by actor: 63 train, 9 validate,
    19 test, drawn by NumPy's RandomState(0). Papers that split by clip hear and see their test actors in training.
    """

    name: ClassVar[str] = "CREMA-D"

    def clips(self) -> Iterator[AnnotatedClip]:
        splits = _split_of_actors()
        found = {path.stem: _NAME.fullmatch(path.stem) for path in MediaIndex(existing_folder(self.root))}
        clips = {stem: match.groups() for stem, match in found.items() if match is not None}
        if not clips:
            raise UsageError(f"{self.root}: no file is called as CREMA-D's are, such as 1001_DFA_ANG_XX.mp4")
        for stem, (actor, sentence, emotion, _) in clips.items():
            if actor not in splits or sentence not in _SENTENCES:
                raise UsageError(f"{self.root}: {stem}: CREMA-D has no actor {actor} or no sentence {sentence}")
            yield AnnotatedClip(stem, {"id": stem}, (_EMOTIONS[emotion],), (_SENTENCES[sentence],), splits[actor])


def _split_of_actors() -> dict[str, str]:
    actors = list(_ACTORS)
    np.random.RandomState(0).shuffle(actors)  # the legacy generator, whose stream is frozen
    ends = (("train", 0.0, 0.7), ("val", 0.7, 0.8), ("test", 0.8, 1.0))
    return {actor: split for split, low, high in ends for actor in actors[int(low * 91) : int(high * 91)]}
