"""Parquet: the complete record in typed, nested columns, as its JSON Schema has them."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.inference.records.result import schema
from mmattn.inference.writers.interface import FileFormat, Record
from mmattn.text import utf8

ROWS = 1024  # at once in memory, and in a row group
_SPAN = {"$ref": "#/$defs/span"}


class Parquet(FileFormat):
    """What is not in a record is null. Times in seconds, spans as {start, end}.

    What is called by names of its own (`versions`, `used`) is a list of {key, value}, which more readers know than
    maps. Bytes of a name that are no UTF-8 stand as \\udcXX.
    """

    suffix = ".parquet"

    def check(self) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError("format=parquet needs pyarrow: pip install 'mmattn[parquet]'")

    def write(self, records: Iterable[Record], part: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        told = schema()
        columns = pyarrow.schema({name: _type(each) for name, each in told["properties"].items()})
        records = iter(records)
        with parquet.ParquetWriter(part, columns) as writer:
            while rows := [_value(record, told) for record in itertools.islice(records, ROWS)]:
                writer.write_table(pyarrow.Table.from_pylist(rows, columns))


def _type(told: dict[str, Any]) -> Any:
    """The Arrow type of what a part of the schema describes."""
    import pyarrow

    if told == _SPAN:
        return pyarrow.struct({"start": pyarrow.float64(), "end": pyarrow.float64()})
    kind = told["type"][0] if isinstance(told["type"], list) else told["type"]  # or null
    if kind == "array":
        return pyarrow.list_(_type(told["items"]))
    if kind == "object" and "properties" in told:
        return pyarrow.struct({name: _type(each) for name, each in told["properties"].items()})
    if kind == "object":
        return pyarrow.list_(pyarrow.struct({"key": pyarrow.string(), "value": _type(told["additionalProperties"])}))
    return {"string": pyarrow.string(), "number": pyarrow.float64()}[kind]


def _value(value: Any, told: dict[str, Any]) -> Any:
    """A copy of plain data as its column takes it, in which every text is UTF-8."""
    if isinstance(value, str):
        return utf8(value)
    if value is None or not isinstance(value, (dict, list)):
        return value
    if told == _SPAN:
        return dict(zip(("start", "end"), value, strict=True))
    if isinstance(value, list):
        return [_value(each, told["items"]) for each in value]
    if "properties" in told:
        return {name: _value(each, told["properties"][name]) for name, each in value.items()}
    return [{"key": utf8(name), "value": _value(each, told["additionalProperties"])} for name, each in value.items()]
