"""Turns a question in plain words into a query of FTS5. None of FTS5's own syntax in the question has an effect."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmattn.inference.search.index import spaced
from mmattn.text import utf8

_MAX_TERMS = 16
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')
_COMMON = frozenset(
    "a an and are as at be by for from has have he her his i in is it its me my of on or our she so that the their "
    "them then there they this to was we were what when where which who will with you your".split()
)


@dataclass(frozen=True)
class Hit:
    """A passage that matches, with the terms of the question that it contains.

    `start`, `end`: s, None if they are not known. `similarity`: its cosine to the question, if it was found by meaning.
    """

    file: str
    path: str
    kind: str
    start: float | None
    end: float | None
    text: str
    terms: tuple[str, ...]
    similarity: float | None = None

    def with_similarity(self, similarity: float) -> Hit:
        """The same hit, found by meaning."""
        return replace(self, similarity=similarity)


def terms_of(question: str) -> list[str]:
    """The words and "phrases in quotes" of a question; a * at the end of a word stands for any ending.

    Common words are left out if there are others.
    """
    found = [phrase or word for phrase, word in _TERM.findall(utf8(question))]
    terms = list(dict.fromkeys(term for term in found if any(c.isalnum() for c in term)))
    specific = [term for term in terms if term.casefold() not in _COMMON]
    return (specific or terms)[:_MAX_TERMS]


def find(database: sqlite3.Connection, terms: Sequence[str], kinds: Sequence[str], limit: int, each: int) -> list[Hit]:
    """At most `limit` passages with any of the terms, at most `each` of a file.

    Files with more of the terms come first, then passages with more of them, then by bm25.
    """
    if not terms:
        return []
    matches = " UNION ALL ".join("SELECT rowid, ?, bm25(words) FROM words WHERE words MATCH ?" for _ in terms)
    values = [value for number, term in enumerate(terms) for value in (number, _match(term))]
    places = ", ".join("?" for _ in kinds)
    rows = database.execute(
        f"""
        WITH found (row, term, rank) AS ({matches}),
        hit AS (SELECT row, group_concat(term) AS terms, count(*) AS many, sum(rank) AS rank FROM found GROUP BY row),
        placed AS (SELECT hit.*, passage.* FROM hit JOIN passage ON passage.id = hit.row WHERE kind IN ({places})),
        of_file AS (
            SELECT passage.file AS file, count(DISTINCT term) AS many, min(rank) AS rank
            FROM found JOIN passage ON passage.id = found.row WHERE kind IN ({places}) GROUP BY passage.file
        ),
        ordered AS (
            SELECT placed.*, of_file.many AS file_many, of_file.rank AS file_rank,
            row_number() OVER (PARTITION BY placed.file ORDER BY placed.many DESC, placed.rank, placed.start) AS place
            FROM placed JOIN of_file ON of_file.file = placed.file
        )
        SELECT file.name, file.path, kind, start, "end", text, terms
        FROM ordered JOIN file ON file.id = ordered.file WHERE place <= ?
        ORDER BY file_many DESC, file_rank, ordered.file, place LIMIT ?
        """,
        [*values, *kinds, *kinds, each, limit],
    )
    return [Hit(*row, terms=tuple(terms[k] for k in sorted(map(int, known.split(","))))) for *row, known in rows]


def _match(term: str) -> str:
    """The expression of FTS5 for a term: a phrase in quotes, in which only quotes are special."""
    plain = spaced(term.rstrip("*")).replace('"', " ").replace("\0", " ")
    return f'"{plain}"' + ("*" if term.endswith("*") else "")
