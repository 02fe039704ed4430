"""Hydra as a library: config folders, defaults lists and overrides.

`hydra.compose` reads every file again in each call, so its parts are used directly: a config is loaded once for each
set of group choices, and values are applied to copies. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmattn.config.folders import config_folders
from mmattn.config.overrides import OPTIONAL, group_of
from mmattn.errors import UsageError

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.default_element import ResultDefault
    from omegaconf import DictConfig


def load(name: str, choices: Sequence[str]) -> DictConfig:
    """The config `name` with group choices (`fusion=late`, `captions=null`), not resolved.

    Raises HydraException, OmegaConfBaseException.
    """
    from omegaconf import OmegaConf, open_dict

    none = {text: group for text in choices if (group := group_of(text)) in OPTIONAL and text.endswith("=null")}
    loader = _loader()
    # Hydra rejects GROUP=null: the group is removed instead, with an experiment's settings of it.
    elements = _elements(loader, name, [f"~{none[text]}" if text in none else text for text in choices])
    config = loader._compose_config_from_defaults_list(defaults=elements, repo=loader.repository)
    with open_dict(config):
        config.pop("hydra", None)
        for group in none.values():
            config.pop(group, None)
    OmegaConf.set_struct(config, True)
    return config


def changed(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy with overrides applied (`optim.lr=1e-3`, `+search.space.dim=...`).

    Raises UsageError for several values of a key, HydraException, OmegaConfBaseException.
    """
    import copy

    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    for text, override in zip(overrides, parsed, strict=True):
        if override.is_sweep_override():
            raise UsageError(several(text))
    config = copy.deepcopy(config)
    ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
    return config


def several(text: str) -> str:
    """The message for a key with several values outside a sweep."""
    return f"{text}: one value is expected; mmattn train -m {text} trains a run for each of several"


def described(name: str, choices: Sequence[str]) -> str:
    """The config folders, and the files that make up `name`, in order."""
    elements = [each for each in _elements(_loader(), name, choices) if each.config_path]
    lines = ["folders, in order of precedence:", *(f"  {folder}" for folder in config_folders())]
    lines += ["files, where later ones override earlier ones:"]
    lines += [f"  {each.config_path} -> {each.package or 'the top level'}" for each in elements]
    return "\n".join(lines)


def _loader() -> ConfigLoaderImpl:
    from hydra import version
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import CachingConfigRepository
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
    from hydra._internal.sources_registry import SourcesRegistry

    version.setbase("1.3")
    for source in (FileConfigSource, StructuredConfigSource):
        SourcesRegistry.instance().register(source)
    path = ConfigSearchPathImpl()
    for number, folder in enumerate(config_folders()):
        path.append("main" if number == 0 else str(number), f"file://{folder}")
    path.append("schema", "structured://")  # Hydra requires it last
    loader = ConfigLoaderImpl(path)
    loader.repository = CachingConfigRepository(loader.repository)  # type: ignore[assignment]
    return loader


def _elements(loader: ConfigLoaderImpl, name: str, choices: Sequence[str]) -> list[ResultDefault]:
    from hydra._internal.defaults_list import create_defaults_list
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = create_defaults_list(
        repo=loader.repository,
        config_name=name,
        overrides_list=OverridesParser.create().parse_overrides(list(choices)),
        prepend_hydra=False,
        skip_missing=False,
    )
    return found.defaults
