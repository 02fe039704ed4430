"""`mmattn browse`: a library as one page of local files, without a server: search, filters, players with timelines.

The page contains the records compressed, in parts; browse.js inserts them as text, never as markup.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import beside, check_output, expanded, followed
from mmattn.inference.records.result import Result
from mmattn.inference.search.library import library_path, read_library
from mmattn.reports import html
from mmattn.text import clean, counted, one_line

_PART = 500  # records compressed together
_LANES = {"captions": (None, "shot", "window"), "chapters": ("chapter",), "summary": ("summary",)}  # by level
Picture = Callable[[Result], str | None]


def browse(config: Config) -> str:
    """Write the page; returns a line for the terminal. Raises UsageError."""
    if config["library"] is None:
        raise UsageError("library is not set; name one, as in: mmattn browse library.jsonl")
    library = library_path(config["library"])
    name = str(config["out"]) if config["out"] is not None else f"{library}.html"
    out = followed(expanded(name))
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"out={clean(name)}: expected the name of a page, as in out=library.html")
    check_output(out, f"out={clean(name)}")
    with ExitStack() as stack, beside(out) as part:
        picture = _pictures(stack) if config["thumbnails"] else None
        count = _write(library, out, part, picture)
    return f"{counted(count, 'file')} -> {clean(str(out))}"


def _write(library: Path, out: Path, part: Path, picture: Picture | None) -> int:
    """Write the page with one part of the records in memory at a time. Returns the number of records."""
    template = html.environment().get_template("browse.html.j2")
    parts, count = _parts(library, out.absolute().parent, picture), 0

    def counting() -> Iterator[str]:
        nonlocal count
        for records, data in parts:
            count += records
            yield data

    values = html.inline(("browse.css",), "browse.js")
    with part.open("w", encoding="utf-8") as page:
        page.writelines(template.generate(title=clean(library.name), parts=counting(), **values))
    return count


def _parts(library: Path, folder: Path, picture: Picture | None) -> Iterator[tuple[int, str]]:
    """The number of records of each part, and the records as base64 of gzip of JSON."""
    results = read_library(library)
    while entries := [_entry(each, folder, picture) for each in itertools.islice(results, _PART)]:
        packed = gzip.compress(json.dumps(entries).encode("ascii"), 6, mtime=0)
        yield len(entries), base64.b64encode(packed).decode("ascii")


def _entry(result: Result, folder: Path, picture: Picture | None) -> dict[str, Any]:
    """What the page shows of a record."""
    ends = [end for _, end in (*result.spans, *result.shots)]
    ends += [each.end for each in (*result.transcript, *result.captions)]
    entry = {
        "name": clean(result.id or result.path),
        "url": _url(result.path, folder),
        "status": result.reason or "unknown" if not result.ok else "ok",
        "detail": clean(result.detail or ""),
        "streams": [] if result.modality is None else list(result.modality.used),
        "length": max(ends, default=0.0),
        "tags": [
            {"tag": one_line(tag.tag), "score": tag.score, "modality": tag.modality, "times": tag.segments or []}
            for tag in result.tags
        ],
        "shots": result.shots,
        **{
            name: [[each.start, each.end, one_line(each.text)] for each in getattr(result, name)]
            for name in ("transcript", "texts")
        },
        **{name: _captions(result, levels) for name, levels in _LANES.items()},
    }
    return entry if picture is None else {**entry, "picture": picture(result)}


def _captions(result: Result, levels: Sequence[str | None]) -> list[list[Any]]:
    return [[each.start, each.end, one_line(each.text)] for each in result.captions if each.level in levels]


def _url(path: str, folder: Path) -> str:
    """Relative for files below the page's folder, so that both can move together."""
    whole = Path(path).absolute()
    if whole.is_relative_to(folder):
        return quote(bytes(whole.relative_to(folder)))
    return f"file://{quote(bytes(whole))}"


def _pictures(stack: ExitStack) -> Picture:
    from mmattn.media.isolate.reader import IsolatedReader
    from mmattn.reports.page.thumbnails import thumbnails

    reader = stack.enter_context(IsolatedReader())

    def picture(result: Result) -> str | None:
        if not result.ok:
            return None
        found = thumbnails(result.path, result.spans[0] if result.spans else None, reader.read)
        return found[len(found) // 3] if found else None

    return picture
