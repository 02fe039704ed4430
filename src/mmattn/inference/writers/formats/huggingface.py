"""A folder that Hugging Face's `datasets` loads: the records in Parquet, and a card."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.inference.records.build import Record
from mmattn.inference.writers.formats.parquet import Parquet
from mmattn.inference.writers.interface import FolderFormat

_DATA = "train.parquet"
_CARD = f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: {_DATA}
---
# Tags, captions and transcripts of a library of videos

One row for each file, as `mmattn predict` wrote it. Times are in seconds. `path` is where the file was; the folder
holds no media.
"""


class HuggingFace(FolderFormat):
    """The columns of format=parquet."""

    names = ("README.md", _DATA)

    def check(self) -> None:
        try:
            Parquet().check()
        except UsageError as error:
            raise UsageError(str(error).replace("format=parquet", "format=huggingface")) from None

    def write(self, records: Iterable[Record], folder: Path) -> None:
        Parquet().write(records, folder / _DATA)
        (folder / "README.md").write_text(_CARD, encoding="utf-8")
