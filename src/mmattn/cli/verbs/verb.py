"""What a verb is: how its words become overrides, and what it does with the config composed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import check_writable, expanded


@dataclass(frozen=True)
class Verb:
    """`run` takes the config and the typed overrides, and returns what to print, if anything.

    `overrides_of` turns what was typed into overrides of the verb's config.
    """

    run: Callable[[Config, Sequence[str]], object]
    overrides_of: Callable[[list[str]], list[str]] = list


def with_keys(typed: list[str], places: tuple[str, ...], keys: tuple[str, ...]) -> list[str]:
    """`typed` with the keys of `places` before words that have none; the last place takes all remaining words.

    `keys`: the other keys of the verb, so that a word such as a=b is not mistaken for one of them.
    """
    keyed = [text for text in typed if text.partition("=")[0].lstrip("+") in (*places, *keys, "format")]
    free = [text for text in typed if text not in keyed]
    open_places = [place for place in places if not any(text.startswith(f"{place}=") for text in keyed)]
    if len(free) > len(open_places) and not (open_places and open_places[-1] == "query"):
        raise UsageError(f"{free[-1]}: one name too many; expected {' and '.join(places)}")
    named = [f"{place}={text}" for place, text in zip(open_places[:-1], free, strict=False)]
    rest = free[len(named) :]
    named += [f"{open_places[-1]}={' '.join(rest)}"] if rest else []
    return [*named, *(text for text in keyed if not text.startswith("format="))]


def check_inputs(config: Config) -> None:
    """Raises UsageError where the verb's run or source does not exist, before torch is imported."""
    from mmattn.training.run.preflight import check_inputs as check

    check(config)


def check_out(config: Config) -> None:
    """Raises UsageError where `out` cannot be written, before torch is imported."""
    out = str(config["out"])
    check_writable(expanded(out).parent, f"out={out}")
