"""Configs: one grammar (Hydra overrides), composed once, checked before anything is built.

`_target_` is the only registry, and it is a closed one: what the packaged conf/ names may be built, nothing else. So a
config that came with a checkpoint cannot call anything of its own choosing, and a new mechanism is a class and a yaml
file. This module needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.kinds import check_kinds, check_no_settings, first_missing
from mmattn.moved import with_present_targets
from mmattn.names import StandIns, as_text, key_and_value
from mmattn.overrides import (
    OPTIONAL,
    check_attends,
    check_choice,
    check_key,
    default_of,
    group_of,
    leaves,
    nearest,
    quoted,
    with_manifest,
)

Config = dict[str, Any]


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

    names, overrides = StandIns(), with_manifest(overrides)
    try:
        groups = {text: group for text in overrides if (group := group_of(text))}
        for text, group in groups.items():
            check_choice(text, group, group_choices(group))
        choices = [text for text in overrides if text in groups]
        base = _compose(name, choices)
        for text in overrides:
            if text not in choices:
                check_key(text, base)
        plain = OmegaConf.to_container(base)
        given = [text if text in choices else _readable(text, plain, names) for text in overrides]
        config = _compose(name, given) if len(choices) < len(overrides) else base
        changed = OmegaConf.to_container(config)
        check_kinds(plain, names.replace(changed))  # type: ignore[arg-type]
        if missing := first_missing(changed):
            raise UsageError(f"{missing} is not set; add {missing}=...")
        check_attends(overrides, OmegaConf.to_container(config))  # type: ignore[arg-type]
        return names.replace(OmegaConf.to_container(config, resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(names.replace(_first_line(error))) from None


def _readable(text: str, base: Any, names: StandIns) -> str:
    """`text` as Hydra can read it: with a stand-in for what is a name in the config `base`."""
    key, value = key_and_value(text)
    check_no_settings(key, value, default_of(base, key))
    name = as_text(key, value, default_of(base, key))
    return quoted(text) if name is None else f"{text.partition('=')[0]}={names.of(name)}"


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

    spec = with_present_targets(spec)
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
    for key, value in leaves(with_present_targets(spec)):
        if "_target_" in key.split(".") and value not in allowed:
            raise UsageError(f"{key}: {value!r} may not be built{nearest(str(value), allowed)}")
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


def choice_text(group: str, name: str) -> str:
    """The yaml file of one choice as it stands, with its comments; below it those that it takes over keys from."""
    if name == "null":
        return f"{group}=null: nothing of {group}\n"
    file = next(path for folder in _search_path() if (path := folder / group / f"{name}.yaml").is_file())
    text = file.read_text(encoding="utf-8").strip() + "\n"
    below = re.search(r"^defaults: \[(.*)\]$", text, re.MULTILINE)
    others = [part.strip() for part in below[1].split(",")] if below else []
    return "\n".join([text, *(choice_text(group, other) for other in others if other != "_self_")])


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
    if others and not (first / f"{name}.yaml").is_file():
        first, others = others[0], [first]
    extra = [f"hydra.searchpath=[{quoted(f'=file://{path}')[1:]}]" for path in others]
    # Hydra refuses GROUP=null: the group is taken away instead, with what an experiment says of its settings.
    none = {text: group for text in overrides if (group := group_of(text)) in OPTIONAL and text.endswith("=null")}
    given = [f"~{none[text]}" if text in none else text for text in overrides]
    with initialize_config_dir(str(first), version_base="1.3", job_name="mmattn"):
        config = hydra_compose(name, overrides=[*given, *extra])
    with open_dict(config):
        for group in none.values():
            config.pop(group, None)
    return config


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
