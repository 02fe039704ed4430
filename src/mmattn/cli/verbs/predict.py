"""mmattn predict and search."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.cli.verbs.verb import Verb, with_keys
from mmattn.config.compose import Config

_SEARCH_KEYS = ("kinds", "limit", "each", "index", "embeddings", "least_similarity")


def _predict_overrides(typed: list[str]) -> list[str]:
    from mmattn.inference.annotators.catalogue import with_full_keys

    return with_full_keys(typed)


def _predict(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.inference.commands.predict import predict

    return predict(config)


def _search_overrides(typed: list[str]) -> list[str]:
    return with_keys([text.removeprefix("search.") for text in typed], ("library", "query"), _SEARCH_KEYS)


def _search(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.inference.commands.search import search_library

    plain = (text.removeprefix("search.") for text in overrides)
    forms = [text.partition("=")[2] for text in plain if text.startswith("format=")]  # no choice of writers here
    return search_library(config, *forms[-1:])


PREDICTING = {"predict": Verb(_predict, _predict_overrides), "search": Verb(_search, _search_overrides)}
