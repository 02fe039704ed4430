"""`mmattn data manifest`: write any data set as one manifest, and a list of the clips without media."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmattn.config.compose import Config, build
from mmattn.data.manifest.adapters.annotated import AnnotatedSource
from mmattn.data.manifest.checked import readable
from mmattn.data.manifest.rows import MANIFEST_NAMES, Row
from mmattn.data.manifest.sources import Source
from mmattn.data.manifest.write import write_manifest
from mmattn.errors import UsageError
from mmattn.files import check_output, expanded, followed, write_atomically
from mmattn.progress import Progress
from mmattn.text import counted


def export(config: Config) -> str:
    """Write `out` and, where clips have no media, OUT.missing.jsonl; returns a summary.

    Raises UsageError when no clip has media.
    """
    out = followed(expanded(str(config["out"])))
    suffixes = [Path(name).suffix for name in MANIFEST_NAMES]
    if out.suffix not in suffixes or out.is_dir():
        raise UsageError(f"out={out}: expected a file that ends in {', '.join(suffixes)}")
    check_output(out, f"out={out}")
    rows, missing = _find(build(config["data"]["source"]))
    if not rows:
        raise UsageError(f"none of {counted(len(missing), 'clip')} has media; the first: {json.dumps(missing[0])}")
    write_manifest(rows, out)
    beside = out.with_suffix(".missing.jsonl")
    if missing:
        write_atomically(beside, "".join(json.dumps(record) + "\n" for record in missing).encode("ascii"))
    else:
        beside.unlink(missing_ok=True)  # of an earlier run
    absent = f"; {len(missing)} of {len(rows) + len(missing)} have no media, see {beside}" if missing else ""
    return f"{_summary(rows)} -> {out}{absent}"


def _find(source: Source) -> tuple[list[Row], list[dict[str, Any]]]:
    """The rows with media, and records of clips without."""
    if isinstance(source, AnnotatedSource):
        rows, absent = source.find()
        rows = readable(rows, expanded(source.checked)) if source.checked and rows else rows
        return rows, [{"id": each.id, "looked_for": list(each.looked_for)} for each in absent]
    rows, missing = [], []
    known: dict[Path, bool] = {}  # many clips may be parts of one file
    found = source.rows()
    with Progress("looking for media", len(found)) as progress:
        for done, row in enumerate(found, start=1):
            if row.path not in known:
                known[row.path] = row.path.is_file()
            if known[row.path]:
                rows.append(row)
            else:
                missing.append({"id": row.id, "looked_for": [str(row.path)]})
            progress.at(done)
    return rows, missing


def _summary(rows: Sequence[Row]) -> str:
    splits = Counter(row.split or "no split" for row in rows)
    tags = {tag for row in rows for tag in row.tags}
    captions = sum(len(row.captions) for row in rows)
    labels = [counted(len(tags), "tag")] * bool(tags) + [counted(captions, "caption")] * bool(captions)
    counts = ", ".join(f"{count} {split}" for split, count in splits.most_common())
    return f"{counted(len(rows), 'clip')} ({counts})" + (f" with {' and '.join(labels)}" if labels else "")
