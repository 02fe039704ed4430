"""The clips of a comparison to browse, with the results of each row of the page.

Of many clips those are kept on which rows disagree most, and those with the most synergy, in turns.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from mmattn.errors import UsageError
from mmattn.reports.collect.clips import clips_file, read_clips
from mmattn.reports.collect.groups import Group, mean_of
from mmattn.reports.collect.records import Number, number
from mmattn.reports.page.clip_media import ClipMedia, read_media

MOST = 200  # clips
_MOST_ROWS = 8  # of a clip: the best and the worst
_NUMBERS = ("score", "video", "audio", "synergy")


@dataclass(frozen=True)
class CaptionWord:
    """A word of a caption with its shares of picture and sound."""

    text: str
    video: Number
    audio: Number


@dataclass(frozen=True)
class ClipResult:
    """The result of one row of the page for a clip: the mean score of the clip's own tags, its split, its caption."""

    place: int
    name: str
    score: Number
    video: Number
    audio: Number
    synergy: Number
    caption: tuple[CaptionWord, ...] = ()


@dataclass(frozen=True)
class BrowsedClip:
    """One clip with its results by row, its pictures and sound, and a command that explains it.

    `mean`: the score and the split, over the rows. `scores`: of each row of the page, by place.
    """

    id: str
    tags: tuple[str, ...]
    references: tuple[str, ...]
    spread: float  # standard deviation of the rows' scores
    mean: Mapping[str, Number]
    scores: tuple[Number, ...]
    rows: tuple[ClipResult, ...]
    media: ClipMedia
    command: str


@dataclass(frozen=True)
class Browser:
    """The clips to browse, those on which rows disagree most first; `known`: how many there are in all."""

    clips: tuple[BrowsedClip, ...] = ()
    known: int = 0


def browser(groups: Sequence[Group], shown: int, most: int = MOST) -> Browser:
    """At most `most` clips that all rows with per-clip results share; the first `shown` with pictures and sound.

    `shown` = 0: no clips at all.
    """
    split = groups[0].mean.scores.split
    kept = {place: clips for place, group in enumerate(groups) if (clips := _clips(group, split))} if shown else {}
    if not kept:
        return Browser()
    shared = sorted(set.intersection(*map(set, kept.values())))
    spreads = {id_: _spread([clips[id_]["score"] for clips in kept.values()]) for id_ in shared}
    means = {id_: {key: mean_of([clips[id_][key] for clips in kept.values()]) for key in _NUMBERS} for id_ in shared}
    in_turns = _in_turns(
        sorted(shared, key=lambda id_: -spreads[id_]) if len(kept) > 1 else [],
        sorted(shared, key=lambda id_: -(means[id_]["synergy"] or 0.0)),
    )[:most]
    media = read_media(groups[0].runs[0].path, split, in_turns, shown)
    explain = f"mmattn explain {shlex.quote(f'run={groups[min(kept)].runs[0].path}')} "
    found = []
    for id_ in sorted(in_turns, key=lambda id_: -spreads[id_] if len(kept) > 1 else in_turns.index(id_)):
        first, source = kept[min(kept)][id_], media[id_].path
        results = [_result(place, groups[place], clips[id_]) for place, clips in kept.items()]
        scores = tuple(kept[place][id_]["score"] if place in kept else None for place in range(len(groups)))
        command = explain + (shlex.quote(f"source={source}") if source else "source=FILE")
        rows, own = tuple(_best_and_worst(results)), (first["tags"], first["references"], spreads[id_])
        found.append(BrowsedClip(id_, *own, means[id_], scores, rows, media[id_], command))
    return Browser(tuple(found), len(shared))


def _in_turns(*orders: Sequence[str]) -> list[str]:
    """The first of each order, then the second of each, ...; each once."""
    return [id_ for id_ in dict.fromkeys(chain(*zip_longest(*orders))) if id_ is not None]


def _best_and_worst(results: list[ClipResult]) -> list[ClipResult]:
    results.sort(key=lambda one: -(one.score if one.score is not None else -1.0))
    half = _MOST_ROWS // 2
    return results if len(results) <= _MOST_ROWS else [*results[:half], *results[-half:]]


def _spread(scores: Sequence[Number]) -> float:
    known = [score for score in scores if score is not None]
    return statistics.pstdev(known) if len(known) > 1 else 0.0


def _clips(group: Group, split: str) -> dict[str, dict[str, Any]]:
    """By id, means over the group's seeds; {} unless all of them kept their clips."""
    files = [clips_file(run.path, split) for run in group.runs]
    if not all(file.is_file() for file in files):
        return {}
    seeds = []
    for file in files:
        try:
            seeds.append({id_: _clip(record) for id_, record in read_clips(file).items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{file}: cannot be read ({type(error).__name__}); evaluate the run again") from None
    return {
        id_: seeds[0][id_] | {key: mean_of([clips[id_][key] for clips in seeds]) for key in _NUMBERS}
        for id_ in set.intersection(*map(set, seeds))
    }


def _clip(record: Mapping[str, Any]) -> dict[str, Any]:
    """A clip is judged by its own tags, or by its caption where it has none."""
    captioning = record.get("captioning") or {}
    score = number(record["value"].get("both"))
    if score is None:
        score = number((captioning.get("metrics") or {}).get("rouge_l"))
    words = [
        CaptionWord(str(word.get("word")), number(word.get("video")), number(word.get("audio")))
        for word in captioning.get("words") or ()
    ]
    if not words and captioning.get("caption"):
        words = [CaptionWord(str(captioning["caption"]), None, None)]
    return {
        "tags": tuple(map(str, record.get("tags") or ())),
        "references": tuple(map(str, captioning.get("references") or ())),
        "score": score,
        **{part: number(record.get(part)) for part in ("video", "audio", "synergy")},
        "caption": tuple(words),
    }


def _result(place: int, group: Group, clip: Mapping[str, Any]) -> ClipResult:
    return ClipResult(place, group.name, **{key: clip[key] for key in (*_NUMBERS, "caption")})
