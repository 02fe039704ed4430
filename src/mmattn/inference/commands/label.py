"""`mmattn data label`: turns the records of a library into a manifest, to train a small model on tags of large ones.

The scores of the tags (`tag_scores`) are the targets in training (knowledge distillation, Hinton et al. 2015). All
clips of a file are in the same split.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.config.kinds import as_typed
from mmattn.data.manifest.rows import MANIFEST_NAMES, Row
from mmattn.data.manifest.sources import held_out
from mmattn.data.manifest.write import write_manifest
from mmattn.errors import UsageError
from mmattn.files import check_output, expanded, followed
from mmattn.inference.records.result import Result, Tag
from mmattn.inference.search.library import library_path, read_library
from mmattn.text import counted

MIN_SHARE = 0.5  # of a clip's length, for the last clip of a file


def label(config: Config) -> str:
    """Write `out`; returns a summary. Raises UsageError for a wrong setting, and if no tag reaches `min_score`."""
    out = followed(expanded(str(config["out"])))
    suffixes = [Path(name).suffix for name in MANIFEST_NAMES]
    if out.suffix not in suffixes or out.is_dir():
        raise UsageError(f"out={out}: expected a file that ends in {', '.join(suffixes)}")
    check_output(out, f"out={out}")
    library = library_path(config["from"])
    rows, skipped = _rows(library, config)
    if not rows and (named := config["annotators"]):
        known = ", ".join(sorted({_from(tag) for result in read_library(library) for tag in result.tags}))
        raise UsageError(
            f"annotators={as_typed(named)}: no tag of theirs reaches min_score; {library} has tags of {known}"
        )
    if not rows:
        raise UsageError(f"{library}: no tag reaches min_score={config['min_score']}; set it lower")
    rows, dropped = _learnable(rows)
    write_manifest(rows, out)
    splits = Counter(row.split for row in rows)
    counts = ", ".join(f"{splits[name]} {name}" for name in ("train", "val"))
    more = f"; {', '.join(f'{count} {why}' for why, count in skipped.items())}" if skipped else ""
    more += f"; {counted(dropped, 'tag')} left out that no training clip has" if dropped else ""
    tags = len({tag for row in rows for tag in row.tags})
    return f"{counted(len(rows), 'clip')} ({counts}) with {counted(tags, 'tag')} -> {out}{more}"


def _rows(library: Path, config: Config) -> tuple[list[Row], Counter[str]]:
    """The clips that have a tag, and how many files have no clip for each reason."""
    rows: list[Row] = []
    skipped: Counter[str] = Counter()
    named = config["annotators"]
    wanted = None if named is None else {named} if isinstance(named, str) else set(named)
    for result in read_library(library):
        if not result.ok:
            skipped["failed"] += 1
            continue
        sure = [
            tag for tag in result.tags if tag.score >= config["min_score"] and (wanted is None or _from(tag) in wanted)
        ]
        split = "val" if held_out(result.path, config["val_fraction"]) == "val" else "train"
        found = list(_clips(result, sure, config["seconds"], split))
        rows += found
        skipped["without a sure tag"] += not found
    return rows, +skipped


def _from(tag: Tag) -> str:
    return tag.source or "run"


def _clips(result: Result, tags: Sequence[Tag], seconds: float | None, split: str) -> Iterator[Row]:
    path = Path(result.path)
    if seconds is None:
        if tags:
            yield _row(path, str(path), 0.0, None, tags, split)
        return
    end = max((end for _, end in result.spans), default=0.0)
    for number in range(max(1, math.ceil(end / seconds - MIN_SHARE))):
        start, stop = number * seconds, min((number + 1) * seconds, end)
        here = [tag for tag in tags if _reaches(tag, start, stop)]
        if here and stop > start:
            yield _row(path, f"{path}@{start:g}", start, stop, here, split)


def _reaches(tag: Tag, start: float, end: float) -> bool:
    """Whether a tag is present in [start, end) s. A tag without times holds for the whole file."""
    return tag.segments is None or any(first < end and last > start for first, last in tag.segments)


def _row(path: Path, name: str, start: float, end: float | None, tags: Sequence[Tag], split: str) -> Row:
    """A clip with its tags. For a tag of several annotators the highest score counts."""
    scores: dict[str, float] = {}
    for tag in tags:
        scores[tag.tag] = max(tag.score, scores.get(tag.tag, 0.0))
    return Row(id=name, path=path, start=start, end=end, tags=tuple(scores), split=split, tag_scores=scores)


def _learnable(rows: list[Row]) -> tuple[list[Row], int]:
    """The clips without tags that only validation clips have, and how many tags these are.

    If all files are in one split, every fifth is moved to the other.
    """
    files = list(dict.fromkeys(row.path for row in rows))
    if len({row.split for row in rows}) == 1 and len(files) > 1:
        moved = {path: "val" if number % 5 == 1 else "train" for number, path in enumerate(files)}
        rows = [replace(row, split=moved[row.path]) for row in rows]
    known = {tag for row in rows if row.split == "train" for tag in row.tags}
    dropped = {tag for row in rows for tag in row.tags} - known
    kept = []
    for row in rows:
        tags = tuple(tag for tag in row.tags if tag in known)
        kept.append(replace(row, tags=tags, tag_scores={tag: row.tag_scores[tag] for tag in tags}))
    return [row for row in kept if row.tags], len(dropped)
