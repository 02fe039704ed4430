"""A model that raises once, for want of memory say: no file is blamed for it, whatever was being read just then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tagging_rules import rules, write_film

from mmattn.data.load.reader import ClipReader
from mmattn.inference.predictor.pipeline import Predictor


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [write_film(folder / f"{k}.mp4", 2.0 + k % 3, (0.5, 1.0), (1.0, 1.5)) for k in range(8)]


@pytest.fixture
def reader() -> Iterator[ClipReader]:
    reader = ClipReader(threads=2)
    yield reader
    reader.close()


@pytest.mark.parametrize("way", [{}, {"span_step_s": 0.5}, {"shots": True}], ids=str)
def test_no_file_is_blamed_for_the_model(films: list[Path], reader: ClipReader, way: dict):
    """As a job does it: after the exception, what was not answered is asked again of the same reader."""
    predictor = Predictor(rules(), reader=reader, batch_size=2, **way)
    plain, calls = predictor.model.encode, iter(range(10**6))
    failing = {0, 1, 4, 5, 9}

    def encode(batch):
        if next(calls) in failing:
            raise RuntimeError("CUDA out of memory")
        return plain(batch)

    predictor.model.encode = encode  # type: ignore[method-assign]
    found, kept, raised = {}, [], 0
    while len(found) < len(films):
        todo = [film for film in films if str(film) not in found]
        try:
            for record in predictor.records(todo):
                found[record["path"]] = record
        except RuntimeError as error:
            kept.append(error)  # with the frames of its traceback: nothing hangs on their end
            raised += 1
    assert raised == len(failing)
    assert {record["status"] for record in found.values()} == {"ok"}, found
    assert not [issue for record in found.values() for issue in record["issues"] if "crashed" in issue]
