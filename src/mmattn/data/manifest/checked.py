"""Uses the results of `mmattn data check`: leaves out the rows of a data set whose files cannot be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmattn.data.manifest.library import Item
from mmattn.data.manifest.rows import Row
from mmattn.errors import UsageError
from mmattn.files import absolutes
from mmattn.text import counted


def readable(rows: Sequence[Row], checked: Path) -> list[Row]:
    """`rows` without those that `checked`, a check.jsonl, says are missing or unreadable; says how many they are.

    Rows of files that it does not list stay. Raises UsageError for another file, or if it lists none of the rows.
    """
    known = _read(checked)
    items = [Item(path, row.offset, row.size) for path, row in zip(absolutes(r.path for r in rows), rows, strict=True)]
    if rows and not any(item in known for item in items):
        raise UsageError(
            f"{checked}: lists none of the {counted(len(rows), 'clip')}, such as {items[0].path}; is it of another set?"
        )
    kept = [row for item, row in zip(items, rows, strict=True) if known.get(item, True)]
    if len(kept) < len(rows):
        print(
            f"{checked}: {len(rows) - len(kept)} of {counted(len(rows), 'clip')} cannot be read; left out",
            file=sys.stderr,
        )
    return kept


def _read(checked: Path) -> dict[Item, bool]:
    """Whether each listed file can be read."""
    known: dict[Item, bool] = {}
    try:
        with checked.open(encoding="ascii") as file:
            for line, text in enumerate(file, start=1):
                try:
                    record = json.loads(text)
                    known[Item(record["path"], record.get("offset"), record.get("size"))] = record["status"] == "ok"
                except (ValueError, KeyError, TypeError):
                    raise UsageError(f"{checked}, line {line}: not a line of mmattn data check") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"{checked}: cannot be read ({reason}); mmattn data check writes it as check.jsonl") from None
    return known
