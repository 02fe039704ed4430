"""Shards: a data set as tars in WebDataset's layout, with a manifest that says where each clip lies in them.

Sequential readers take the tars as they are; here each clip is read at its place, in any order.
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
    """What `mmattn data shard` made in `root`. Labels may be changed in its manifest.jsonl, the tars may not."""

    root: str
    bundles = True

    def rows(self) -> list[Row]:
        """Raises UsageError for shards that are unfinished, missing or of another size than they were made with."""
        root = expanded(self.root)
        sizes = read_made(root, SHARDS_FILE, COMMAND)["made"]["tars"]
        for name, size in sizes.items():
            found = (root / name).stat().st_size if (root / name).is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes"
                raise UsageError(f"{root / name}: {state}, was made with {size}; copy it again or make the shards anew")
        rows = read_manifest(root / MANIFEST_FILE)
        for row in rows:
            end = (row.offset or 0) + (row.size or 0)
            if row.offset is None or row.path.parent != root or end > sizes.get(row.path.name, 0):
                raise UsageError(f"{root / MANIFEST_FILE}: {row.id!r} does not lie in one of the shards")
        return rows
