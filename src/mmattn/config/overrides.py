"""Checks of typed overrides, `key=value`, against the config that they change. No torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from mmattn.config.folders import is_group, optional_groups, packaged_groups
from mmattn.errors import UsageError

GROUPS = packaged_groups()
OPTIONAL = optional_groups()  # groups that accept =null


def group_of(text: str) -> str | None:
    """The group of `attention=NAME`, or of `attention@captions.attention=NAME`; None for a plain key."""
    key, equals, _ = text.lstrip("+").partition("=")
    group = key.partition("@")[0]
    return group if equals and is_group(group) else None


def as_choice(text: str) -> str:
    """`~captions` (Hydra's way to remove an optional group) as captions=null, `+experiment=x` as experiment=x.

    Hydra wants the plus for a group that is not in the defaults list; all of ours are. Anything else is unchanged.
    """
    if text.startswith("+") and "@" not in text and group_of(text) in GROUPS:
        return text.lstrip("+")
    group = text[1:].partition("=")[0]
    return f"{group}=null" if text.startswith("~") and group in OPTIONAL else text


_INSTEAD_OF_HYDRA = {
    "run": "the run directory is run=DIR",
    "sweep": "a sweep's folder is runs/sweeps/NAME, with sweep=NAME",
    "sweeper": "a search is mmattn train -m search=optuna, a grid mmattn train -m key=a,b",
    "launcher": "runs are started by launcher=local, torchrun or slurm",
    "searchpath": "a folder of your own configs is --config-dir DIR",
    "job": "mmattn never changes the directory; run=DIR names the run",
    "verbose": "set MMATTN_DEBUG=1 to see where an error comes from",
}
_SOME = 12  # names in a hint
_NO_HYDRA = "mmattn has no hydra section; see mmattn train --help for its keys"
_PLAIN = re.compile(r"[A-Za-z0-9_./+-]*")
_GRAMMAR = re.compile(r"[\[{'\"$].*|\w+\(.*\)", re.DOTALL)  # a list, settings, quotes, another key's value, a function


def quoted(text: str) -> str:
    """Quote a value that Hydra's grammar cannot parse, so that the error is about the value."""
    key, equals, value = text.partition("=")
    if not equals or _PLAIN.fullmatch(value) or _GRAMMAR.fullmatch(value):
        return text
    escaped = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'")
    return f"{key}='{escaped}'"


def with_manifest(overrides: Iterable[str]) -> list[str]:
    """Replace `data.manifest=lists/m.jsonl` by data.root=lists data.source.manifest=m.jsonl."""
    given = list(overrides)
    key = "data.manifest="
    if not (named := [text for text in given if text.startswith(key)]):
        return given
    path, others = named[-1].removeprefix(key), [text for text in given if not text.startswith(key)]
    if any(text.startswith("data.root=") for text in given):
        return [*others, f"data.source.manifest={path}"]
    folder, _, name = path.rpartition("/")
    return [*others, f"data.root={folder or ('/' if path.startswith('/') else '.')}", f"data.source.manifest={name}"]


def check_choice(text: str, group: str, choices: Collection[str]) -> None:
    """Raises UsageError, naming the closest choices, where the group does not have the choice in `text`."""
    choice = text.partition("=")[2]
    if "," in choice and all(each.strip() in choices for each in choice.split(",")):
        raise UsageError(f"{text}: one {group} is expected; mmattn train -m {text} trains a run for each of several")
    if choice not in choices and not (choice == "null" and group in OPTIONAL):
        raise UsageError(f"{text}: no {group} is named {choice!r}{nearest(choice, choices)}")


def check_key(text: str, base: Any) -> None:
    """Raises UsageError, naming the closest keys, for a key that the config `base` does not have."""
    from omegaconf import OmegaConf

    key, equals, _ = text.partition("=")
    if text.startswith("~"):
        raise UsageError(f"{text}: keys cannot be removed; set it to another value")
    if key.lstrip("+").startswith(("hydra.", "hydra/")):
        raise UsageError(f"{text}: {_INSTEAD_OF_HYDRA.get(re.split('[./]', key)[1], _NO_HYDRA)}")
    key = key.lstrip("+")
    if not equals or (text.startswith("+") and not re.fullmatch(r"[\w.@/-]+", key, re.ASCII)):
        raise UsageError(f"{text!r} is not key=value")
    node: Any = base
    for depth, part in enumerate(key.split(".")):
        names = [str(name) for name in node] if OmegaConf.is_dict(node) else []
        if part not in names:
            if text.startswith("+") and (node is None or (OmegaConf.is_dict(node) and _is_open(node))):
                return  # free settings, or arguments of a class, which checks them itself
            prefix = ".".join(key.split(".")[:depth])
            names += GROUPS if depth == 0 and "fusion" in names else ()  # other verbs have few groups, all of them keys
            valid = [f"{prefix}.{name}" if prefix else name for name in names]
            raise UsageError(f"{key}: no such key{nearest(key, valid)}")
        node = node._get_node(part)
        if OmegaConf.is_interpolation(node):
            return  # the key it refers to is checked instead
        node = node if OmegaConf.is_config(node) and not node._is_none() else None


def _is_open(node: Any) -> bool:
    return not len(node) or "_target_" in node


def default_of(base: Mapping[str, Any], key: str) -> Any:
    """The value of the dotted `key` in the plain config `base`, or None."""
    node: Any = base
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def check_attends(given: Iterable[str], config: Mapping[str, Any]) -> None:
    """Raises UsageError where an attention or a position was typed and the chosen fusion has no attention."""
    asked = [
        text for text in given if text.lstrip("+").startswith(("attention=", "attention.", "position=", "position."))
    ]
    fusion = config.get("fusion")
    if asked and isinstance(fusion, Mapping):
        try:
            takes_attention(str(fusion.get("_target_", "")).rpartition(".")[2], fusion)
        except UsageError as error:
            raise UsageError(f"{asked[0]}: {error}; leave it out") from None


def takes_attention(name: str, fusion: Mapping[str, Any]) -> None:
    """Raises UsageError for the config of a fusion without attention."""
    if "attention" not in fusion:
        raise UsageError(f"{name} takes no attention")


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of dotted key and value of all leaves of a config."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from leaves(value, f"{prefix}.{i}")
    else:
        yield prefix, node


def nearest(name: str, valid: Collection[str]) -> str:
    """A hint for error messages with the names closest to a wrong one, or with the first of all names."""
    valid = sorted(set(valid))
    if near := difflib.get_close_matches(name, valid, n=3, cutoff=0.5):
        return f"; did you mean {' or '.join(near)}?"
    more = f" and {len(valid) - _SOME} more" if len(valid) > _SOME else ""
    return f"; expected one of {', '.join(valid[:_SOME])}{more}" if valid else ""
