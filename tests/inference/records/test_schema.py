"""One schema: the JSON Schema, the typed Result, every format and the page of the docs say the same."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from record_kinds import ANNOTATED, FAILED, KINDS, TRAINED, drawn_record
from test_result import LINES

from mmattn.errors import MEDIA_REASONS
from mmattn.inference.records import result as results
from mmattn.inference.records.result import Result, schema
from mmattn.inference.writers.formats.jsonl import JSONLines
from mmattn.inference.writers.formats.parquet import Parquet

jsonschema = pytest.importorskip("jsonschema")
DOCS = Path(__file__).parents[3] / "docs" / "schema.md"
RANDOM = [drawn_record(schema(), random.Random(seed)) for seed in range(300)]


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("record", [*KINDS.values(), *LINES], ids=lambda record: record["path"])
def test_records_of_all_kinds_are_valid(record: dict, validator: Any) -> None:
    validator.validate(record)
    validator.validate(Result.from_dict(record).to_dict())


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        (TRAINED, {"unknown": 1}),
        (TRAINED, {"status": "maybe"}),
        (TRAINED, {"reason": "not_media"}),
        (TRAINED, {"spans": [[1.0]]}),
        (TRAINED, {"tags": [{"tag": "x", "score": 1.2}]}),
        (TRAINED, {"tags": [{"tag": "x", "score": 0.5, "source": "y"}]}),
        (ANNOTATED, {"transcript": [{"text": "x"}]}),
        (ANNOTATED, {"used": {"speech": ["smell"]}}),
        (FAILED, {"reason": "because"}),
        (FAILED, {"tags": []}),
    ],
)
def test_what_is_no_record_is_refused(record: dict, wrong: dict, validator: Any) -> None:
    validator.validate(record)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**record, **wrong})


def test_a_typed_result_loses_nothing_of_any_record(validator: Any) -> None:
    for record in RANDOM:
        validator.validate(record)
        assert Result.from_dict(record).to_dict() == record
        assert hash(Result.from_dict(record)) == hash(Result.from_dict(json.loads(json.dumps(record))))
    assert {key for record in RANDOM for key in record} == set(schema()["properties"])


def test_the_fields_of_the_classes_are_the_keys_of_the_schema() -> None:
    told = schema()["properties"]
    parts = {
        results.Result: told,
        results.Tag: told["tags"]["items"]["properties"],
        results.Caption: told["captions"]["items"]["properties"],
        results.Word: told["captions"]["items"]["properties"]["words"]["items"]["properties"],
        results.Utterance: told["transcript"]["items"]["properties"],
        results.SpokenWord: told["transcript"]["items"]["properties"]["words"]["items"]["properties"],
        results.ReadText: told["texts"]["items"]["properties"],
        results.ModalityUse: told["modality"]["properties"],
        results.Shares: told["modality"]["properties"]["shapley"]["properties"],
        results.AttentionUse: told["modality"]["properties"]["attention"]["properties"],
    }
    for kind, properties in parts.items():
        names = {field.name for field in dataclasses.fields(kind)} - {"looked_for"}
        assert {"from" if name == "source" else name for name in names} == set(properties), kind


def test_every_reason_is_known() -> None:
    assert set(schema()["properties"]["reason"]["enum"]) == {*MEDIA_REASONS, "quarantined"}


def _described(told: dict, path: str = "") -> Iterator[tuple[str, str]]:
    """Each key with its path, as in tags[].score, and its description."""
    for name, each in told.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield here, each["description"]
        items = each.get("items", {})
        yield from _described(each, here) if "properties" in each else _described(items, f"{here}[]")


def test_the_docs_describe_each_field_as_the_schema_does() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: text for name, _, text in rows} == dict(_described(schema()))


def test_jsonl_and_parquet_hold_the_whole_of_any_record(tmp_path: Path, validator: Any) -> None:
    given = [*KINDS.values(), *RANDOM]
    JSONLines().write(iter(given), tmp_path / "o.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert lines == given
    Parquet().write(iter(given), tmp_path / "o.parquet")
    rows = parquet.read_table(tmp_path / "o.parquet").to_pylist()
    for record, row in zip(given, rows, strict=True):
        assert _from_row(row, schema()) == record
    assert set(rows[0]) == set(schema()["properties"])


def _from_row(value: Any, told: dict) -> Any:
    """A row as the record that it was: without nulls, spans as pairs, maps as objects."""
    if "$ref" in told:
        return [value["start"], value["end"]]
    if value is None or isinstance(value, (str, float)):
        return value
    if "items" in told:
        return [_from_row(each, told["items"]) for each in value]
    if "properties" not in told:
        return {each["key"]: _from_row(each["value"], told["additionalProperties"]) for each in value}
    nullable = told["properties"].get("shapley", {}) and ("shapley", "attention")
    return {
        name: _from_row(each, told["properties"][name])
        for name, each in value.items()
        if each is not None or name in (nullable or ())
    }
