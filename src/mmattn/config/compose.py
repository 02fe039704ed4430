"""Composes configs from Hydra overrides, checks them, and builds what they name.

`_target_` is the only registry, and a closed one (mmattn.config.targets): only classes named by configs on this machine
(packaged, of the user's folder, of installed packages) are built. So a config that came with a checkpoint cannot call
arbitrary code, and a new mechanism is a class and a yaml file. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmattn.config.allowed import check_allowed
from mmattn.config.folders import conf_dir as conf_dir
from mmattn.config.folders import config_file, group_choices
from mmattn.config.hydra_configs import changed, load, several
from mmattn.config.kinds import check_kinds, check_no_settings, first_missing
from mmattn.config.moved import with_present_targets
from mmattn.config.names import Placeholders, as_text, key_and_value
from mmattn.config.overrides import (
    as_choice,
    check_attends,
    check_choice,
    check_key,
    default_of,
    group_of,
    leaves,
    quoted,
    with_manifest,
)
from mmattn.config.targets import check_target
from mmattn.errors import UsageError, first_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

Config = dict[str, Any]


def compose(name: str, overrides: Sequence[str] = ()) -> Config:
    """The config `name` with Hydra overrides applied and resolved, as plain dicts.

    Raises UsageError that names the wrong part and the closest valid names.
    """
    return Composer(name).compose(overrides)


class Composer:
    """Composes one config many times. Files are read once for each set of group choices; `loaded` counts the reads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded = 0
        self._bases: dict[tuple[str, ...], tuple[DictConfig, Config]] = {}

    def compose(self, overrides: Sequence[str] = (), resolve: bool = True, whole: bool = True) -> Config:
        """As `compose`. `resolve`: replace references to other keys; `whole`: raise UsageError for missing values."""
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        names = Placeholders()
        try:
            overrides = [as_choice(text) for text in with_manifest(overrides)]
            base, plain = self._base(tuple(text for text in overrides if group_of(text)))
            values = [_in_full(text, plain) for text in overrides if not group_of(text)]
            for text in values:
                check_key(text, base)
            config = changed(base, [_readable(text, plain, names) for text in values]) if values else base
            before_resolving: Any = OmegaConf.to_container(config) if values else plain
            typed = names.replace(before_resolving)
            check_kinds(plain, typed)
            check_allowed(self.name, plain, typed)
            if whole and (missing := first_missing(before_resolving)):
                raise UsageError(f"{missing} is not set; add {missing}=...")
            check_attends(overrides, before_resolving)
            return names.replace(OmegaConf.to_container(config, resolve=True) if resolve else before_resolving)
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(names.replace(first_line(error))) from None

    def _base(self, choices: tuple[str, ...]) -> tuple[DictConfig, Config]:
        """The config with group `choices`, as OmegaConf and as plain dicts."""
        from omegaconf import OmegaConf

        if choices not in self._bases:
            for text in choices:
                group = group_of(text) or ""
                check_choice(text, group, group_choices(group))
            self.loaded += 1
            base = load(self.name, choices)
            self._bases[choices] = base, OmegaConf.to_container(base)  # type: ignore[assignment]
        return self._bases[choices]


def _readable(text: str, base: Any, names: Placeholders) -> str:
    """`text` with a placeholder for its value where the key holds a name in the config `base`."""
    key, value = key_and_value(text)
    check_no_settings(key, value, default_of(base, key))
    name = as_text(key, value, default_of(base, key))
    if name is None and "," in value and quoted(text) != text and _is_choice(text):
        raise UsageError(several(text))
    return quoted(text) if name is None else f"{text.partition('=')[0]}={names.of(name)}"


def _in_full(text: str, base: Config) -> str:
    """`sweep=NAME` as sweep.folder=NAME, if that is a key of the config `base`."""
    is_short = text.startswith("sweep=") and isinstance(base.get("sweep"), Mapping)
    return f"sweep.folder={text.removeprefix('sweep=')}" if is_short else text


def _is_choice(text: str) -> bool:
    """Whether the override is a sweep, such as key=a,b."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides([text])[0].is_sweep_override()
    except HydraException:
        return False


def defaults(name: str) -> str:
    """The composed config `name` as YAML, before any override."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(load(name, []))


def build(spec: Any, **given: Any) -> Any:
    """Instantiate a resolved config node, after checking every `_target_` in it. `given` adds arguments at the top.

    `${...}` in a value is text, such as a folder's name: nothing is looked up.
    Raises UsageError for a target that may not be built, or arguments that do not fit.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    spec = with_present_targets(spec)
    check_spec(spec)
    if not isinstance(spec, Mapping) or "_target_" not in spec:
        raise UsageError(f"expected a config with a _target_, found {spec!r}")
    spec = _literal(spec)
    try:
        if not given:
            return instantiate(spec, _convert_="all")
        # Objects do not pass through OmegaConf (it takes a dataclass for a schema), so they join at the call.
        return instantiate({**spec, "_partial_": True}, _convert_="all")(**given)
    except (TypeError, ValueError, RuntimeError, OmegaConfBaseException) as error:
        raise UsageError(f"{spec['_target_']}: {first_line(error)}") from None
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError):
            raise cause from None
        raise UsageError(f"{spec['_target_']}: {first_line(cause or error)}") from None


def build_optional(config: Config, group: str) -> Any:
    """What an optional group of `config` chose; None for nothing, as in the config of a run older than the group."""
    return build(config[group]) if config.get(group) else None


def check_spec(spec: Any) -> None:
    """Raises UsageError unless every `_target_` may be built."""
    for key, value in leaves(with_present_targets(spec)):
        if "_target_" in key.split("."):
            check_target(key, value)


def _literal(node: Any) -> Any:
    """A config in which Hydra finds no `${...}` to look up, and from which it builds the same texts."""
    if isinstance(node, Mapping):
        return {key: _literal(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_literal(value) for value in node]
    if isinstance(node, str) and "${" in node:
        return {"_target_": f"{__name__}.{_joined.__name__}", "parts": node.split("${")}
    return node


def _joined(parts: Sequence[str]) -> str:
    return "${".join(parts)


def choice_text(group: str, name: str) -> str:
    """The yaml file of one choice with its comments, followed by the files that it inherits from."""
    if name == "null":
        return f"{group}=null: none\n"
    file = config_file(f"{group}/{name}.yaml")
    assert file, f"group_choices({group!r}) has no {name!r}"
    text = file.read_text(encoding="utf-8").strip() + "\n"
    below = re.search(r"^defaults: \[(.*)\]$", text, re.MULTILINE)
    others = [part.strip() for part in below[1].split(",")] if below else []
    return "\n".join([text, *(choice_text(group, other) for other in others if other != "_self_")])


def read_choice(group: str, name: str) -> Config:
    """The yaml file of one choice alone, not composed."""
    from omegaconf import OmegaConf

    file = config_file(f"{group}/{name}.yaml")
    assert file, f"group_choices({group!r}) has no {name!r}"
    return OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[return-value]
