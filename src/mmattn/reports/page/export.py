"""Everything that a comparison's page shows, in files beside it: one JSON, and a CSV for each table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmattn.files import write_atomically
from mmattn.reports.page import rows, tag_tables
from mmattn.reports.page.content import Page
from mmattn.reports.page.rows import Row
from mmattn.text import cell


def write_tables(out: Path, page: Page) -> list[Path]:
    """Write `out`'s name with .json, and `-TABLE.csv` for each table with rows. Returns the files."""
    tables = _tables(page) | tag_tables.export([group.name for group in page.groups], page.tag_results)
    written = [out.with_suffix(".json")]
    whole = _plain(_about(page) | tables)
    write_atomically(written[0], json.dumps(whole, indent=1, ensure_ascii=True, allow_nan=False).encode())
    for name, lines in tables.items():
        if lines:
            written.append(out.with_name(f"{out.stem}-{name}.csv"))
            write_atomically(written[-1], to_csv(lines).encode("utf-8"))
    return written


def _tables(page: Page) -> dict[str, list[Row]]:
    groups, found, facts = page.groups, page.found, page.facts
    return {
        "rows": page.rows,
        "runs": rows.run_rows(groups, found.main.metric, facts),
        "pairs": rows.pair_rows(groups, found),
        "weightings": rows.weighting_rows(groups, found),
        "trends": [asdict(trend) | {"result": trend.words} for trend in found.trends],
        "families": rows.family_rows(groups),
        "tags": rows.tag_rows(groups),
        "heads": rows.head_rows(groups),
        "curves": rows.curve_rows(groups),
        "noise": rows.noise_rows(groups, facts),
        "lengths": rows.length_rows(groups, facts),
        "samples": rows.sample_rows(page.browser.clips),
    }


def _about(page: Page) -> dict[str, Any]:
    main = page.found.main
    return {
        "metric": main.metric,
        "split": page.groups[0].mean.scores.split,
        "clips": main.clips,
        "videos": main.videos,
        "resampled": main.resampled,
        "baseline": page.groups[main.baseline].name,
        "factors": list(page.factors),
        "fairness": [finding.text for finding in page.fairness],
        "without_clip_scores": [str(path) for path in main.missing],
    }


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row, columns in order of appearance; text that a spreadsheet would evaluate is quoted with '."""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _plain(node: Any) -> Any:
    """Values as JSON has them: undefined numbers become null."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, (list, tuple)):
        value = " ".join(str(item) for item in value if item is not None)
    if isinstance(value, str):
        return cell(value)
    return value
