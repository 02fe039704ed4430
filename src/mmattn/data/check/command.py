"""`mmattn data check`: measure every file of a media library, flag problems, summarise.

Measures (mmattn.media.survey) and flags are separate: the measures are stored, so other limits need no second scan.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mmattn.config.compose import Config
from mmattn.data.check.duplicates import Fingerprint, alike, content_digest, edges_digest
from mmattn.data.check.findings import FlagLimits, Summary, length_of
from mmattn.data.check.journal import Record, ScanJournal, ScannedFile
from mmattn.data.check.scan import LocalReader, scan_all
from mmattn.data.manifest.library import Item, list_media, root_of
from mmattn.errors import UsageError
from mmattn.files import beside, check_writable, expanded, write_atomically
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.survey.record import DEPTHS
from mmattn.process.openmp import cores
from mmattn.progress import Progress
from mmattn.text import counted

CHECKED, PART, SUMMARY = "check.jsonl", "check.part.jsonl", "summary.json"


@dataclass(frozen=True)
class Checked:
    """The result of a check. `shown`: the files listed on a page, those with a flag first."""

    summary: Summary
    lengths: np.ndarray  # (readable files,) s
    shown: list[Record]
    out: Path
    from_before: int  # files that were not scanned again


def check(config: Config) -> Checked:
    """Scan `source` and write check.jsonl (each file once, by path) and summary.json into `out`.

    Raises UsageError if there are no files. Bad files are results, not errors. An interrupted scan keeps its results in
    check.part.jsonl, and the same command continues from there.
    """
    depth = config["depth"]
    if depth not in DEPTHS:
        raise UsageError(f"depth={depth}: expected {', '.join(DEPTHS)}")
    for key, least in (("workers", 0), ("rows", 0), ("short_s", 0), ("offset_s", 0)):
        if config[key] < least:
            raise UsageError(f"{key}={config[key]}: expected {least} or more")
    deadline_s = config["deadline_s"]
    if deadline_s is None:
        deadline_s = 600.0 if depth == "full" else 60.0
    if not isinstance(deadline_s, (int, float)) or not 0 < deadline_s < float("inf"):
        raise UsageError(f"deadline_s={deadline_s}: expected a number of seconds above 0, or null")
    source, out = expanded(str(config["source"])), expanded(str(config["out"]))
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: not a directory; out= names the directory to write into")
    check_writable(out, f"out={out}")
    left_out: Counter[str] = Counter()
    items = list_media(source, out, left_out)
    workers = config["workers"] or cores()
    limits = FlagLimits(**{name: config[name] for name in asdict(FlagLimits())})
    summary = Summary(str(source.resolve()), depth, limits=asdict(limits), left_out=left_out)
    with ScanJournal(out / PART, out / CHECKED, depth, config["resume"]) as journal:
        from_before = _scan(items, journal, config, workers, deadline_s)
        found = _duplicates(items, journal, workers) if config["duplicates"] else {}
        if config["alike"]:
            _add_alike(items, journal, found)
        lengths, shown = _write(items, journal, found, limits, summary, out, config["rows"])
        write_atomically(out / SUMMARY, (json.dumps(summary.to_dict(), indent=1) + "\n").encode("ascii"))
        journal.remove()
    return Checked(summary, lengths, shown, out, from_before)


def _scan(items: list[Item], journal: ScanJournal, config: Config, workers: int, deadline_s: float) -> int:
    """Scan every file without a valid record; returns the number of those with one."""
    follow = config["follow_symlinks"]
    jobs = [job for job in (ScannedFile.of(item, follow) for item in items) if not journal.holds(job)]
    known = len(items) - len(jobs)
    kind = IsolatedReader if config["isolated"] else LocalReader
    how = {"deadline_s": deadline_s, "follow_symlinks": follow, "beneath": root_of(expanded(str(config["source"])))}
    readers = [kind(**how) for _ in range(min(workers, len(jobs)))]
    try:
        with closing(scan_all(jobs, config["depth"], readers)) as records:
            for record in itertools.islice(records, 1):  # the estimate leaves out the start of the processes
                journal.add(record)
            with Progress("checking", len(jobs)) as progress:
                for done, record in enumerate(records, start=2):
                    journal.add(record)
                    progress.at(done)
    except KeyboardInterrupt:
        done = known + journal.done(jobs)
        some = f"{done} of {counted(len(items), 'file')} {'is' if len(items) == 1 else 'are'} done"
        print(f"mmattn: {some}; the same command continues", file=sys.stderr)
        raise
    return known


def _duplicates(items: Sequence[Item], journal: ScanJournal, workers: int) -> dict[Item, Record]:
    """Additions to the records of identical files: a digest, and the path of the first."""
    by_size: dict[int, list[Item]] = {}
    for item in items:
        record = journal.read(item)
        if record["bytes"] and record.get("reason") != "unreadable":
            by_size.setdefault(record["bytes"], []).append(item)
    sized = [(item, size) for size, group in by_size.items() if len(group) > 1 for item in group]
    ends = _digests(sized, edges_digest, workers, "comparing")
    groups = Counter(end for end in ends.values() if end)
    known = {item: journal.read(item).get("sha256") for item, _ in sized}
    candidates = [(item, size) for item, size in sized if groups[ends[item]] > 1]
    fresh = _digests([each for each in candidates if not known[each[0]]], content_digest, workers, "comparing whole")
    first: dict[str, Item] = {}
    found: dict[Item, Record] = {}
    for item, _ in candidates:
        digest = known[item] or fresh[item]
        if not digest:
            continue
        found[item] = {"sha256": digest}
        if first.setdefault(digest, item) != item:
            found[item]["duplicate_of"] = first[digest].path
    return found


def _digests(
    sized: Sequence[tuple[Item, int]], digest: Callable[[Item, int], str], workers: int, title: str
) -> dict[Item, str]:
    """The digest of each file; empty for one that can no longer be read."""

    def one(each: tuple[Item, int]) -> tuple[Item, str]:
        try:
            return each[0], digest(*each)
        except OSError:
            return each[0], ""

    with ThreadPoolExecutor(workers) as pool, Progress(title, len(sized)) as progress:
        results: dict[Item, str] = {}
        for done, (item, text) in enumerate(pool.map(one, sized), start=1):
            results[item] = text
            progress.at(done)
    return results


def _add_alike(items: Sequence[Item], journal: ScanJournal, found: dict[Item, Record]) -> None:
    prints = [None if "duplicate_of" in found.get(item, {}) else _fingerprint(journal.read(item)) for item in items]
    for index, first in alike(prints).items():
        found.setdefault(items[index], {})["like"] = items[first].path


def _fingerprint(record: Record) -> Fingerprint | None:
    if record["status"] != "ok" or length_of(record) is None:
        return None
    picture, sound = record.get("picture_hash") or "0", record.get("sound_hash") or "0"
    return Fingerprint(int(picture, 16), int(sound, 16), length_of(record) or 0.0, record.get("frames") or 0)


def _write(
    items: Sequence[Item],
    journal: ScanJournal,
    found: dict[Item, Record],
    limits: FlagLimits,
    summary: Summary,
    out: Path,
    rows: int,
) -> tuple[np.ndarray, list[Record]]:
    """Write check.jsonl; returns the lengths of all readable files, s, and the records for a page."""
    lengths: list[float] = []
    odd: list[Record] = []
    plain: list[Record] = []
    with beside(out / CHECKED) as part, part.open("w", encoding="ascii") as file:
        for record in _flagged(items, journal, found, limits):
            file.write(json.dumps(record, allow_nan=False) + "\n")
            summary.add(record)
            if record["status"] == "ok" and (length := length_of(record)) is not None:
                lengths.append(length)
            kept = plain if record["status"] == "ok" and not record["flags"] and not record["issues"] else odd
            if len(kept) < rows:
                kept.append(record)
    array = np.array(lengths)
    if len(lengths):
        names = ("least", "p05", "p25", "median", "p75", "p95", "most")
        values = np.quantile(array, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
        summary.durations = {name: float(value) for name, value in zip(names, values, strict=True)}
    return array, (odd + plain)[:rows]


def _flagged(
    items: Sequence[Item], journal: ScanJournal, found: dict[Item, Record], limits: FlagLimits
) -> Iterator[Record]:
    for item in items:
        record = journal.read(item)
        for key in ("sha256", "duplicate_of", "like", "flags"):  # of an earlier scan of other files
            record.pop(key, None)
        record |= found.get(item, {})
        yield record | {"flags": limits.flags(record)}
