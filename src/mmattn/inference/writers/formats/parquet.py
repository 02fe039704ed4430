"""Parquet: the complete record in typed, nested columns that follow its JSON Schema."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.inference.records.build import Record
from mmattn.inference.records.result import schema
from mmattn.inference.writers.interface import FileFormat
from mmattn.text import utf8

ROWS = 1024  # of a row group, held in memory
_SPAN = {"$ref": "#/$defs/span"}


class Parquet(FileFormat):
    r"""Keys that a record lacks are null. Times are in seconds, spans are {start, end}.

    Objects with arbitrary keys (`versions`, `used`) are lists of {key, value}, because not all readers support maps.
    Bytes of a name that are not UTF-8 are written as \udcXX.
    """

    suffix = ".parquet"

    def check(self) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError("format=parquet needs pyarrow: pip install 'mmattn[parquet]'")

    def write(self, records: Iterable[Record], part: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        record_schema = schema()
        columns = pyarrow.schema({name: _type(each) for name, each in record_schema["properties"].items()})
        records = iter(records)
        with parquet.ParquetWriter(part, columns) as writer:
            while rows := [_value(record, record_schema) for record in itertools.islice(records, ROWS)]:
                writer.write_table(pyarrow.Table.from_pylist(rows, columns))


def _type(part: dict[str, Any]) -> Any:
    """The Arrow type of a part of the schema."""
    import pyarrow

    if part == _SPAN:
        return pyarrow.struct({"start": pyarrow.float64(), "end": pyarrow.float64()})
    kind = part["type"][0] if isinstance(part["type"], list) else part["type"]  # or null
    if kind == "array":
        return pyarrow.list_(_type(part["items"]))
    if kind == "object" and "properties" in part:
        return pyarrow.struct({name: _type(each) for name, each in part["properties"].items()})
    if kind == "object":
        return pyarrow.list_(pyarrow.struct({"key": pyarrow.string(), "value": _type(part["additionalProperties"])}))
    return {"string": pyarrow.string(), "number": pyarrow.float64()}[kind]


def _value(value: Any, part: dict[str, Any]) -> Any:
    """A copy of plain data in the form of its column, with all texts valid UTF-8."""
    if isinstance(value, str):
        return utf8(value)
    if value is None or not isinstance(value, (dict, list)):
        return value
    if part == _SPAN:
        return dict(zip(("start", "end"), value, strict=True))
    if isinstance(value, list):
        return [_value(each, part["items"]) for each in value]
    if "properties" in part:
        return {name: _value(each, part["properties"][name]) for name, each in value.items()}
    return [{"key": utf8(name), "value": _value(each, part["additionalProperties"])} for name, each in value.items()]
