"""A question in plain words becomes one to FTS5. What a person types is text: none of FTS5's syntax is passed on."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmattn.inference.search.index import spaced
from mmattn.text import utf8

_MOST_TERMS = 16
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')
_COMMON = frozenset(
    "a an and are as at be by for from has have he her his i in is it its me my of on or our she so that the their "
    "them then there they this to was we were what when where which who will with you your".split()
)


@dataclass(frozen=True)
class Hit:
    """A passage with the terms of the question that it has; `start`, `end` in s, None where they are not known.

    `similarity`: its cosine to the question, where it was found by meaning.
    """

    file: str
    path: str
    kind: str
    start: float | None
    end: float | None
    text: str
    terms: tuple[str, ...]
    similarity: float | None = None

    def alike(self, similarity: float) -> Hit:
        return replace(self, similarity=similarity)


def terms_of(question: str) -> list[str]:
    """Words, and "phrases in quotes"; a * at a word's end stands for any ending. Words that every text has are left
    out where others are asked for."""
    found = [phrase or word for phrase, word in _TERM.findall(utf8(question))]
    terms = list(dict.fromkeys(term for term in found if any(c.isalnum() for c in term)))
    telling = [term for term in terms if term.casefold() not in _COMMON]
    return (telling or terms)[:_MOST_TERMS]


def search(
    database: sqlite3.Connection, terms: Sequence[str], kinds: Sequence[str], limit: int, each: int
) -> list[Hit]:
    """At most `limit` passages with any of the terms, `each` of a file: files with more of the terms first, in them
    passages with more, then by bm25."""
    if not terms:
        return []
    matches = " UNION ALL ".join("SELECT rowid, ?, bm25(words) FROM words WHERE words MATCH ?" for _ in terms)
    asked = [value for number, term in enumerate(terms) for value in (number, _match(term))]
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
        [*asked, *kinds, *kinds, each, limit],
    )
    return [Hit(*row, terms=tuple(terms[k] for k in sorted(map(int, known.split(","))))) for *row, known in rows]


def _match(term: str) -> str:
    """FTS5's expression for a term: a phrase in quotes, in which nothing but quotes means anything."""
    plain = spaced(term.rstrip("*")).replace('"', " ").replace("\0", " ")
    return f'"{plain}"' + ("*" if term.endswith("*") else "")
