"""Shards: a data set as tars in WebDataset's layout, with a manifest of the byte range of each clip.

Sequential readers can use the tars directly; here each clip is read from its byte range, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.manifest.sources import Source
from mmattn.data.output_folder import read_made
from mmattn.errors import UsageError
from mmattn.files import expanded

SHARDS_FILE = "shards.json"
MANIFEST_FILE = "manifest.jsonl"
COMMAND = "data shard data=folder data.root=DIR"


@dataclass(frozen=True)
class ShardSource(Source):
    """The output of `mmattn data shard` in `root`. Labels in its manifest.jsonl may be edited, the tars may not."""

    root: str
    bundles = True

    def rows(self) -> list[Row]:
        """Every clip. Raises UsageError for shards that are unfinished, missing or of another size than recorded."""
        root = expanded(self.root)
        sizes = read_made(root, SHARDS_FILE, COMMAND)["made"]["tars"]
        for name, size in sizes.items():
            found = (root / name).stat().st_size if (root / name).is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes"
                raise UsageError(
                    f"{root / name}: {state}, not {size} as written; copy it again or make the shards again"
                )
        rows = read_manifest(root / MANIFEST_FILE)
        for row in rows:
            end = (row.offset or 0) + (row.size or 0)
            if row.offset is None or row.path.parent != root or end > sizes.get(row.path.name, 0):
                raise UsageError(f"{root / MANIFEST_FILE}: {row.id!r} does not lie in one of the shards")
        return rows
