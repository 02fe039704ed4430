"""`mmattn search library.jsonl 'dog barking'`: finds files, with the time and the text of each match."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.search.index import open_index
from mmattn.inference.search.library import library_path
from mmattn.inference.search.query import Hit, find, terms_of
from mmattn.inference.sentences.source import find_model
from mmattn.text import clean, counted, one_line

if TYPE_CHECKING:
    from mmattn.inference.sentences.embedder import Sentences

FORMATS = ("text", "jsonl")
KINDS = ("transcript", "caption", "tag", "text")
_EXCERPT = 100  # characters


def search_library(config: Config, form: str = "text") -> str:
    """The hits, a line each, in the format `form`. Raises UsageError."""
    if form not in FORMATS:
        raise UsageError(f"format={form}: expected {' or '.join(FORMATS)}")
    if unknown := [kind for kind in config["kinds"] if kind not in KINDS]:
        raise UsageError(f"kinds={unknown[0]}: expected some of {', '.join(KINDS)}")
    for key in ("library", "query"):
        if config[key] is None:
            raise UsageError(f"{key} is not set; give both as in: mmattn search library.jsonl 'dog barking'")
    library, question = library_path(config["library"]), str(config["query"])
    terms = terms_of(question)
    if not terms:
        raise UsageError(f"query={clean(question)!r}: holds no word to look for")
    place = None if config["index"] is None else expanded(str(config["index"]))
    sentences = _sentences(config)
    kinds = config["kinds"] or KINDS
    with open_index(library, place) as (database, index):
        hits = find(database, terms, kinds, config["limit"], config["each"])
        if sentences is not None:
            from mmattn.inference.search.meaning import merged, nearest  # with torch

            alike = nearest(database, index, sentences, question, kinds, config["least_similarity"])
            hits = merged(hits, alike, config["limit"], config["each"])
    if form == "jsonl":
        return "\n".join(json.dumps(_plain(hit)) for hit in hits)
    return "\n".join(_lines(hits)) if hits else f"nothing with {' or '.join(map(clean, terms))}"


def _sentences(config: Config) -> Sentences | None:
    """The model that embeds texts, None without `embeddings`. Raises UsageError."""
    if not -1 <= config["least_similarity"] <= 1:
        raise UsageError(f"least_similarity={config['least_similarity']}: expected -1 to 1")
    if config["embeddings"] is None:
        return None
    find_model(str(config["embeddings"]))
    from mmattn.inference.sentences.embedder import Sentences  # with torch

    return Sentences(str(config["embeddings"]))


def _plain(hit: Hit) -> dict[str, object]:
    names = {"id": hit.file, "path": hit.path, "kind": hit.kind, "start": hit.start, "end": hit.end}
    alike = {} if hit.similarity is None else {"similarity": round(hit.similarity, 4)}
    return {**names, "text": hit.text, "terms": list(hit.terms), **alike}


def _lines(hits: Sequence[Hit]) -> list[str]:
    lines = [f"{clean(hit.file)}  {_when(hit)}  {hit.kind}  {_excerpt(hit)}{_alike(hit)}" for hit in hits]
    return [*lines, f"{counted(len(hits), 'passage')} in {counted(len({hit.file for hit in hits}), 'file')}"]


def _alike(hit: Hit) -> str:
    return "" if hit.similarity is None else f"  ({hit.similarity:.2f} alike)"


def _when(hit: Hit) -> str:
    return "-" if hit.start is None or hit.end is None else f"{_clock(hit.start)}-{_clock(hit.end)}"


def _clock(seconds: float) -> str:
    """A time of a file, as in 0:01:02.5."""
    tenths = round(10 * max(seconds, 0.0))
    return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _excerpt(hit: Hit) -> str:
    """A passage, or the part of a long one around the first term that is literally in it."""
    text = one_line(hit.text)
    if len(text) <= _EXCERPT:
        return clean(text)
    places = [text.casefold().find(term.rstrip("*").casefold()[:4]) for term in hit.terms]
    first = max(0, min((place for place in places if place >= 0), default=0) - _EXCERPT // 3)
    part = text[first : first + _EXCERPT]
    return clean(("\u2026" if first else "") + part + ("\u2026" if first + _EXCERPT < len(text) else ""))
