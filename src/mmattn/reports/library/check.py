"""The findings of `mmattn data check`: a table on the terminal and one self-contained page.

The page's only script sorts and filters rows that are there without it. The template escapes file names and makes
characters visible that would hide or turn text.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mmattn.config.compose import Config
from mmattn.data.check.command import CHECKED, Checked, check
from mmattn.data.check.findings import FLAGS, length_of
from mmattn.data.check.journal import Record
from mmattn.errors import MEDIA_REASONS
from mmattn.files import write_atomically
from mmattn.reports import html
from mmattn.reports.text import clean, clock, size
from mmattn.text import counted

PAGE = "report.html"
REASONS = {
    "unreadable": "the system refuses to read it, or it is not a regular file",
    "not_media": "not a known container",
    "no_streams": "contains neither picture nor sound",
    "truncated": "cut off, so that nothing can be decoded",
    "unsupported_codec": "no decoder for it, or encrypted",
    "too_large": "larger than the limit",
    "too_long": "longer than the limit",
    "timeout": "not read within the deadline",
    "crashed": "the decoding process crashed",
    "changed": "it changed while it was read",
}
assert set(REASONS) == set(MEDIA_REASONS)
_EDGES_S = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, math.inf)
_NAMED = 8  # of a kind, on the terminal
_FAILURES = 10  # listed on the terminal


def check_library(config: Config) -> str:
    """Scan, write the page beside check.jsonl, and return the table for the terminal."""
    checked = check(config)
    write_atomically(checked.out / PAGE, render(checked))
    return table(checked)


def table(checked: Checked) -> str:
    """The findings as lines of text."""
    found = checked.summary
    good, bad = found.status["ok"], found.files - found.status["ok"]
    line = f"{counted(found.files, 'file')}, {size(found.bytes)}; {good} readable, {clock(found.seconds)} in all"
    lines = [line + (f"; {bad} not readable" if bad else "")]
    if checked.from_before:
        lines.append(f"{checked.from_before} of them known from before and unchanged")
    counts = [("reasons", found.reasons), ("findings", found.flags), ("noticed", found.issues)]
    counts += [("containers", found.containers), ("video", found.video_codecs), ("audio", found.audio_codecs)]
    counts.append(("left out", found.left_out))
    if missing := found.status["missing"]:
        counts[0] = ("reasons", found.reasons + Counter({"missing": missing}))
    lines += [f"  {name:<11}{_counted(counter)}" for name, counter in counts if counter]
    if found.durations:
        shown = (("least", "least"), ("median", "median"), ("p95", "95 %"), ("most", "most"))
        lines.append("  duration   " + ", ".join(f"{name} {clock(found.durations[key])}" for key, name in shown))
    if found.duplicate_bytes:
        lines.append(f"  duplicates take {size(found.duplicate_bytes)}")
    failures = [record for record in checked.shown if record["status"] != "ok"][:_FAILURES]
    lines += [f"  {_reason(record)}: {clean(_name(record, found.source))}" for record in failures]
    if bad > len(failures):
        lines.append(f"  and {bad - len(failures)} more")
    lines.append(f"-> {checked.out / CHECKED}, {checked.out / PAGE}")
    return "\n".join(lines)


def _counted(counter: Counter[str]) -> str:
    named = [f"{count} {clean(name)}" for name, count in counter.most_common(_NAMED)]
    rest = sum(counter.values()) - sum(count for _, count in counter.most_common(_NAMED))
    return ", ".join(named) + (f", {rest} others" if rest else "")


def render(checked: Checked) -> bytes:
    """The page as UTF-8 HTML."""
    found = checked.summary
    return html.render(
        "library.html.j2",
        found=found,
        kinds=[(name, count, FLAGS.get(name, "")) for name, count in found.flags.most_common()],
        reasons=[(name, count, REASONS.get(name, "")) for name, count in found.reasons.most_common()],
        tables=[
            ("containers", found.containers.most_common()),
            ("video codecs", found.video_codecs.most_common()),
            ("audio codecs", found.audio_codecs.most_common()),
            ("noticed while reading", found.issues.most_common()),
        ],
        bins=_bins(checked.lengths),
        rows=[_row(record, found.source) for record in checked.shown],
        **html.inline(("report.css", "library.css"), "library.js"),
    )


def _bins(lengths: np.ndarray) -> list[tuple[str, int, float]]:
    """Label, count and share of the largest count, without empty bins at both ends."""
    counts = np.histogram(lengths, _EDGES_S)[0] if len(lengths) else np.zeros(0, int)
    filled = np.flatnonzero(counts)
    if not len(filled):
        return []
    labels = [
        f"{clock(low)} to {clock(high)}" if high < math.inf else f"{clock(low)} and more"
        for low, high in itertools.pairwise(_EDGES_S)
    ]
    most = counts.max()
    return [(labels[i], int(counts[i]), counts[i] / most) for i in range(filled[0], filled[-1] + 1)]


def _row(record: Record, source: str) -> dict[str, Any]:
    """The cells of one file."""
    picture = sound = None
    if record.get("video_codec"):
        shape = f"{record.get('width')}x{record.get('height')}"
        rate = record.get("measured_fps") or record.get("fps")
        turned = f", turned {record['rotation']}°" if record.get("rotation") else ""
        picture = f"{record['video_codec']} {shape}" + (f", {rate:.4g} fps" if rate else "") + turned
    if record.get("audio_codec"):
        sound = f"{record['audio_codec']} {record.get('sample_rate')} Hz, {record.get('channels')} ch"
    other = record.get("duplicate_of") or record.get("like")
    return {
        "name": _name(record, source),
        "status": record["status"],
        "reason": _reason(record) if record["status"] != "ok" else None,
        "detail": record.get("detail"),
        "flags": record["flags"],
        "issues": record.get("issues", []),
        "other": None if other is None else _name({"path": other}, source),
        "container": (record.get("container") or "").split(",")[0],
        "picture": picture,
        "sound": sound,
        "loudness": _decibels(record.get("loudness")),
        "length": length_of(record),
        "bytes": record["bytes"],
    }


def _reason(record: Record) -> str:
    return record.get("reason") or record["status"]


def _name(record: Record, source: str) -> str:
    path = Path(record["path"])
    name = str(path.relative_to(source)) if path != Path(source) and path.is_relative_to(source) else str(path)
    return name if "offset" not in record else f"{name}[{record['offset']}:{record['offset'] + record['size']}]"


def _decibels(loudness: float | None) -> float | None:
    return None if loudness is None else 20 * math.log10(max(loudness, 1e-6))
