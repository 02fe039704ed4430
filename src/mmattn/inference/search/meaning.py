"""Finds passages by meaning: embeddings of a library's passages, stored beside its index."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmattn.files import write_atomically
from mmattn.inference.search.query import Hit
from mmattn.inference.sentences.embedder import Sentences
from mmattn.progress import Progress

SUFFIX = ".embeddings"
RANK_OFFSET = 60  # of reciprocal rank fusion (Cormack et al. 2009)
_CHUNK = 512


def nearest(
    database: sqlite3.Connection, place: Path, sentences: Sentences, question: str, kinds: Sequence[str], least: float
) -> list[tuple[Hit, float]]:
    """The passages with a cosine of at least `least` to the question, nearest first. `place`: of the index."""
    rows = database.execute(
        'SELECT file.name, file.path, kind, start, "end", text FROM passage JOIN file ON file.id = passage.file '
        "ORDER BY passage.id"
    ).fetchall()
    vectors = _vectors(rows, database, place.with_name(place.name + SUFFIX), sentences)
    if not rows:
        return []
    cosines = vectors.float() @ sentences([question])[0]
    order = cosines.argsort(descending=True, stable=True).tolist()
    return [(Hit(*rows[i], terms=()), float(cosines[i])) for i in order if cosines[i] >= least and rows[i][2] in kinds]


def merged(by_words: Sequence[Hit], by_meaning: Sequence[tuple[Hit, float]], limit: int, each: int) -> list[Hit]:
    """Merge both lists by the sum of 1 / (60 + rank). A passage in both keeps its terms and its similarity.

    At most `limit` passages, at most `each` of a file.
    """
    found: dict[tuple, Hit] = {}
    score: dict[tuple, float] = {}
    for rank, hit in enumerate(by_words, start=1):
        found[_key(hit)] = hit
        score[_key(hit)] = 1 / (RANK_OFFSET + rank)
    for rank, (hit, similarity) in enumerate(by_meaning, start=1):
        key = _key(hit)
        found[key] = found.get(key, hit).with_similarity(similarity)
        score[key] = score.get(key, 0.0) + 1 / (RANK_OFFSET + rank)
    kept: list[Hit] = []
    count: dict[str, int] = {}
    for key in sorted(found, key=lambda key: -score[key]):
        hit = found[key]
        count[hit.file] = count.get(hit.file, 0) + 1
        if count[hit.file] <= each and len(kept) < limit:
            kept.append(hit)
    return kept


def _key(hit: Hit) -> tuple:
    return hit.file, hit.kind, hit.start, hit.end, hit.text


def _vectors(rows: Sequence[tuple], database: sqlite3.Connection, file: Path, sentences: Sentences) -> Tensor:
    """(N, D) in half precision, from `file` if it is current; else computed, and written if the folder allows it."""
    stamp = repr(database.execute("SELECT * FROM library").fetchone())
    metadata = {"library": stamp.encode("unicode_escape").decode(), "model": sentences.version, "count": str(len(rows))}
    try:
        with safe_open(file, framework="pt") as kept:
            if kept.metadata() == metadata:
                return kept.get_tensor("vectors")
    except (OSError, SafetensorError):  # absent or damaged
        pass
    texts = list(dict.fromkeys(row[5] for row in rows))  # tags repeat
    parts = []
    with Progress("embedding", len(texts)) as progress:
        for first in range(0, len(texts), _CHUNK):
            parts.append(sentences(texts[first : first + _CHUNK]).half())
            progress.at(min(first + _CHUNK, len(texts)))
    place = {text: i for i, text in enumerate(texts)}
    vectors = torch.cat(parts)[[place[row[5]] for row in rows]] if rows else torch.zeros(0, 0)
    with suppress(OSError):  # in a read-only folder they are computed for each question, as the index is
        write_atomically(file, save({"vectors": vectors.contiguous()}, metadata))
    return vectors
