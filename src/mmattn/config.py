"""Configs: one grammar (Hydra overrides), composed once, checked before anything is built.

`_target_` is the only registry, and it is a closed one: what the packaged conf/ names may be built, nothing else. So a
config that came with a checkpoint cannot call anything of its own choosing, and a new mechanism is a class and a yaml
file. This module needs no torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError

Config = dict[str, Any]
GROUPS = (
    "data",
    "visual",
    "audio",
    "attention",
    "fusion",
    "task",
    "tag_loss",
    "captions",
    "multitask",
    "self_critical",
    "pretrain",
    "regulariser",
    "modality_balance",
    "weight_average",
    "freeze",
    "optim",
    "trainer",
    "launcher",
    "search",
    "logger",
    "engine",
    "format",
    "experiment",
)
# Groups of which nothing may be chosen, with =null.
OPTIONAL = (
    "captions",
    "self_critical",
    "pretrain",
    "regulariser",
    "modality_balance",
    "weight_average",
    "freeze",
    "search",
    "experiment",
)
# Numbers that may be left to mmattn.
_OR_AUTO = ("batch_size",)
# Files and folders that may be left null.
_NAMES = ("run", "resume", "sweep", "init_from", "out", "job", "tracks", "burn_in", "weights", "predictions", "tag")


@cache
def conf_dir() -> Path:
    """The packaged conf/: inside an installed wheel, or at the top of a checkout."""
    here = Path(__file__).resolve()
    for candidate in (here.parent / "conf", here.parents[2] / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise UsageError(f"mmattn's conf/ was not found beside {here.parent}; reinstall mmattn")


def compose(name: str, overrides: Sequence[str] = ()) -> Config:
    """The config `name` with Hydra overrides applied and resolved, as plain dicts.

    Raises UsageError naming the unknown or wrong part and its nearest valid names.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        choices = [text for text in overrides if _group_of(text)]
        for text in choices:
            _check_choice(text)
        base = _compose(name, choices)
        overrides = [text if text in choices else _quoted(text) for text in overrides]
        for text in overrides:
            if text not in choices:
                _check_key(text, base)
        config = _compose(name, list(overrides)) if len(choices) < len(overrides) else base
        _keep_names(base, config, overrides)
        _check_kinds(OmegaConf.to_container(base), OmegaConf.to_container(config))
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise UsageError(f"{missing[0]} is not set; add {missing[0]}=...")
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_first_line(error)) from None


def defaults(name: str) -> str:
    """The composed config `name` as YAML, before any override."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(_compose(name, []))


def build(spec: Any, **given: Any) -> Any:
    """Instantiate a resolved config node, after checking every `_target_` in it. `given` adds arguments at the top.

    Raises UsageError for a target outside the packaged conf/, an interpolation, or arguments that do not fit.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    check_spec(spec)
    if not isinstance(spec, Mapping) or "_target_" not in spec:
        raise UsageError(f"expected a config with a _target_, found {spec!r}")
    try:
        if not given:
            return instantiate(spec, _convert_="all")
        # Objects do not pass through OmegaConf (it takes a dataclass for a schema), so they join at the call.
        return instantiate({**spec, "_partial_": True}, _convert_="all")(**given)
    except (TypeError, ValueError, RuntimeError, OmegaConfBaseException) as error:
        raise UsageError(f"{spec['_target_']}: {_first_line(error)}") from None
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError):
            raise cause from None
        raise UsageError(f"{spec['_target_']}: {_first_line(cause or error)}") from None


def check_spec(spec: Any) -> None:
    """Raises UsageError unless every `_target_` is one that conf/ names and nothing is left to interpolate."""
    allowed = _allowed_targets()
    for key, value in _leaves(spec):
        if "_target_" in key.split(".") and value not in allowed:
            raise UsageError(f"{key}: {value!r} may not be built{_nearest(str(value), allowed)}")
        if isinstance(value, str) and "${" in value:
            raise UsageError(f"{key}: {value!r} refers to something outside the config")


@cache
def _allowed_targets() -> frozenset[str]:
    pattern = re.compile(r"^\s*_target_:\s*([\w.]+)\s*$", re.MULTILINE)
    return frozenset(
        target for path in conf_dir().rglob("*.yaml") for target in pattern.findall(path.read_text(encoding="utf-8"))
    )


def group_choices(group: str) -> list[str]:
    """What `group=` may be: the yaml files of the user's ./conf and the packaged one."""
    return sorted({path.stem for folder in _search_path() for path in (folder / group).glob("*.yaml")})


def read_choice(group: str, name: str) -> Config:
    """What the yaml file of one choice says by itself, nothing filled in from elsewhere: quick, unlike `compose`."""
    from omegaconf import OmegaConf

    file = next(path for folder in _search_path() if (path := folder / group / f"{name}.yaml").is_file())
    return OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[return-value]


def _search_path() -> list[Path]:
    own = Path.cwd() / "conf"
    return [own, conf_dir()] if own.is_dir() and own.resolve() != conf_dir() else [conf_dir()]


def _compose(name: str, overrides: Sequence[str]):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import open_dict

    first, *others = _search_path()
    extra = [f"hydra.searchpath=[{','.join(f'file://{path}' for path in others)}]"] if others else []
    if others and not (first / f"{name}.yaml").is_file():
        first, extra = others[0], [f"hydra.searchpath=[file://{first}]"]
    # Hydra refuses GROUP=null: the group is taken away instead, with what an experiment says of its settings.
    none = {text: group for text in overrides if (group := _group_of(text)) in OPTIONAL and text.endswith("=null")}
    given = [f"~{none[text]}" if text in none else text for text in overrides]
    with initialize_config_dir(str(first), version_base="1.3", job_name="mmattn"):
        config = hydra_compose(name, overrides=[*given, *extra])
    with open_dict(config):
        for group in none.values():
            config.pop(group, None)
    return config


def _group_of(text: str) -> str | None:
    """`attention=NAME`, or `attention@captions.attention=NAME` for a choice in another place than the group's own."""
    key, equals, _ = text.lstrip("+").partition("=")
    group = key.partition("@")[0]
    return group if equals and group in GROUPS else None


def _quoted(text: str) -> str:
    """File names may hold what Hydra's grammar would read otherwise: blanks, brackets, quotes, commas."""
    key, equals, value = text.partition("=")
    if not equals or not re.search(r"[\s()',;\[\]{}=~]", value) or value[:1] in ("[", "{", "'", '"', "$"):
        return text
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def _check_choice(text: str) -> None:
    key, _, choice = text.lstrip("+").partition("=")
    group = key.partition("@")[0]
    choices = group_choices(group)
    if choice not in choices and not (choice == "null" and group in OPTIONAL):
        raise UsageError(f"{text}: no {group} is named {choice!r}{_nearest(choice, choices)}")


def _check_key(text: str, base: Any) -> None:
    from omegaconf import OmegaConf

    key, equals, _ = text.partition("=")
    if text.startswith("~"):
        raise UsageError(f"{text}: keys cannot be taken away, every one is needed; set it to another value")
    key = key.lstrip("+")
    if not equals:
        raise UsageError(f"{text!r} is not key=value")
    if text.startswith("+"):  # Hydra's way to add a key on purpose
        return
    node: Any = base
    for depth, part in enumerate(key.split(".")):
        names = [str(name) for name in node] if OmegaConf.is_dict(node) else []
        if part not in names:
            prefix = ".".join(key.split(".")[:depth])
            valid = [f"{prefix}.{name}" if prefix else name for name in [*names, *(GROUPS if depth == 0 else ())]]
            raise UsageError(f"{key}: no such key{_nearest(key, valid)}")
        node = node._get_node(part)
        if OmegaConf.is_interpolation(node):
            return  # what it refers to decides
        node = node if OmegaConf.is_config(node) else None


def _keep_names(base: Any, config: Any, overrides: Sequence[str]) -> None:
    """`source=2024` means a folder of that name, though Hydra reads a number."""
    from omegaconf import OmegaConf

    before, after = (dict(_leaves(OmegaConf.to_container(node))) for node in (base, config))
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        old = before.get(key)
        is_name = (isinstance(old, str) and "${" not in old) or (old is None and key in _NAMES)
        if is_name and type(after.get(key)) in (int, float):
            OmegaConf.update(config, key, value)


def _check_kinds(base: Any, config: Any) -> None:
    """A number stays a number, a switch a switch: so that a typo is found before anything is built."""
    before, sections = dict(_leaves(base)), dict(_sections(base))
    for key, value in _leaves(config):
        optional = value is None and key in GROUPS  # GROUP=null leaves it out
        if not optional and (within := sections.get(key)) is not None and "${" not in str(value):
            hint = f", such as {key}.{next(iter(within))}=..." if within else ""
            raise UsageError(f"{key}={value}: expected settings{hint}")
        old = before.get(key)
        if old is None or "${" in f"{old}{value}":
            continue
        if value is None:
            raise UsageError(f"{key}=null: expected a value, such as {old}")
        if isinstance(old, bool) != isinstance(value, bool):
            raise UsageError(f"{key}={value}: expected {'true or false' if isinstance(old, bool) else 'a value'}")
        if key in _OR_AUTO and value == "auto":
            continue
        if isinstance(old, (int, float)) and (not isinstance(value, (int, float)) or value != value):
            raise UsageError(f"{key}={value}: expected a number, such as {old}")
        if isinstance(old, int) and isinstance(value, float):
            raise UsageError(f"{key}={value}: expected a whole number, such as {old}")


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _leaves(value, f"{prefix}.{i}")
    else:
        yield prefix, node


def _sections(node: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if isinstance(value, Mapping):
                own = f"{prefix}.{key}" if prefix else str(key)
                yield own, value
                yield from _sections(value, own)


def _nearest(name: str, valid: Sequence[str] | frozenset[str]) -> str:
    valid = sorted(set(valid))
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.5) or valid[:12]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def nearest(name: str, valid: Sequence[str]) -> str:
    """A hint with the names closest to a wrong one."""
    return _nearest(name, valid)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
