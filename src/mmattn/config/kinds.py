"""Checks that each value is of the kind that its key takes, before anything is built.

A key takes the kind of its default: a number, a switch, text, a list, or settings. Where the default is null, the
tables here give the kind by the name of the key. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmattn.config.names import LISTS, NAMES, is_name
from mmattn.config.overrides import OPTIONAL, default_of
from mmattn.errors import UsageError

OR_AUTO = frozenset(("batch_size",))  # numbers that may be auto
# Last parts of keys whose default is null.
NUMBERS = frozenset(
    (
        *("threshold", "seconds", "span_step_s", "deadline_s", "window_s", "warn_s", "clips_per_epoch", "encoder_lr"),
        *("layer_decay", "length_decay", "peak_tflops", "min_nodes", "state", "height", "width", "step_s"),
    )
)
NUMBERS_OR_LISTS = frozenset(("resize", "size", "grid"))  # one number for both sides, or one for each
SWITCHES = frozenset(("deinterlace", "cut", "fused", "normalize", "system"))
SETTINGS = frozenset(("architecture", "preprocessing", "decoding", "options", "srun"))
TEXTS = NAMES | {"hdr", "keep_by", "keep_mode", "profile", "fit", "resample"}
TEXT_LISTS = LISTS | {"setup"}

_EXPECTED = {
    "number": "a number",
    "switch": "true or false",
    "text": "one value",
    "list": "a list, such as [a,b]",
    "settings": "settings, such as {name: value}",
    "number or list": "a number, or a list of them",
}


def check_kinds(base: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raises UsageError where a value of `config` is of another kind than that in `base`."""
    for key, value in config.items():
        if key in base and not (value is None and key in OPTIONAL):
            _check(str(key), base[key], value, base)


def check_no_settings(key: str, typed: str, default: Any) -> None:
    """Raises UsageError for settings where the key takes a list, which Hydra cannot merge."""
    if isinstance(default, list) and typed.startswith("{") and key.rpartition(".")[2] not in TEXTS | TEXT_LISTS:
        raise UsageError(f"{key}={typed}: expected a list, such as {as_typed(default)}")


def first_missing(node: Any, prefix: str = "") -> str | None:
    """The first mandatory key (???) that is not set."""
    if isinstance(node, Mapping):
        found = (first_missing(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items())
        return next((key for key in found if key), None)
    return prefix if node == "???" else None


def _check(key: str, old: Any, value: Any, base: Mapping[str, Any]) -> None:
    if value is None and _refers(old) and kind_of(key):  # an optional key that by default refers to another
        return
    old = _followed(old, base)
    if _refers(old) or _refers(value):
        return
    if isinstance(old, Mapping):
        if not isinstance(value, Mapping):
            hint = f", such as {key}.{next(iter(old))}=..." if old else ""
            raise _wrong(key, value, f"settings{hint}")
        for name, each in value.items():
            if name in old:
                _check(f"{key}.{name}", old[name], each, base)
    elif isinstance(old, list):
        _check_list(key, old, value, base)
    elif old is None:
        _check_unset(key, value)
    else:
        _check_value(key, old, value)


def _check_list(key: str, old: list[Any], value: Any, base: Mapping[str, Any]) -> None:
    if isinstance(value, str) and key.rpartition(".")[2] in TEXT_LISTS:
        return  # one of them
    if not isinstance(value, list):
        raise _wrong(key, value, f"a list, such as {as_typed(old or ['a', 'b'])}")
    for i, each in enumerate(value):
        if old:
            _check(f"{key}.{i}", old[min(i, len(old) - 1)], each, base)


def _check_value(key: str, old: Any, value: Any) -> None:
    if value is None:
        raise _wrong(key, "null", f"a value, such as {old}")
    if isinstance(old, bool) != isinstance(value, bool):
        raise _wrong(key, value, "true or false" if isinstance(old, bool) else "a value")
    if key in OR_AUTO and value == "auto":
        return
    number = isinstance(value, (int, float)) and value == value
    if isinstance(old, (int, float)) and not number:
        raise _wrong(key, value, f"a number, such as {old}")
    if isinstance(old, int) and isinstance(value, float):
        raise _wrong(key, value, f"a whole number, such as {old}")
    if isinstance(value, Mapping) or (isinstance(value, list) and key.rpartition(".")[2] not in TEXT_LISTS):
        raise _wrong(key, value, "one value" if old == "???" else f"one value, such as {old}")


def _check_unset(key: str, value: Any) -> None:
    kind = kind_of(key)
    if value is None or kind is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    numbers = isinstance(value, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    fits = {
        "number": number,
        "switch": isinstance(value, bool),
        "text": not isinstance(value, (list, Mapping)),
        "list": isinstance(value, list) or (isinstance(value, str) and key.rpartition(".")[2] in LISTS),
        "settings": isinstance(value, Mapping),
        "number or list": number or numbers,
    }
    if not fits[kind]:
        raise _wrong(key, value, f"{_EXPECTED[kind]}, or null")


def kind_of(key: str) -> str | None:
    """The kind of a key whose default is null; None where it is not known."""
    name = key.rpartition(".")[2]
    if name not in TEXT_LISTS and is_name(key):
        return "text"
    tables = {
        "number": NUMBERS,
        "number or list": NUMBERS_OR_LISTS,
        "switch": SWITCHES,
        "settings": SETTINGS,
        "list": TEXT_LISTS,
        "text": TEXTS,
    }
    return next((kind for kind, names in tables.items() if name in names), None)


def _followed(value: Any, base: Mapping[str, Any]) -> Any:
    """The value after following references such as `${dim}`."""
    for _ in range(10):
        if not (isinstance(value, str) and value.startswith("${") and value.endswith("}") and ":" not in value):
            break
        value = default_of(base, value[2:-1])
    return value


def _refers(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _wrong(key: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{shown(key)}={as_typed(value)}: expected {expected}")


def shown(key: str) -> str:
    """A key as one types it: `things.threshold` for annotator.things.threshold."""
    return key.removeprefix("annotator.")


def as_typed(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {as_typed(each)}" for key, each in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
