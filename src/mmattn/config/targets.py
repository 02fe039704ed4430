"""Which `_target_` may be built: those named by configs on this machine, and classes of trusted packages. No torch.

A frozen config may come from elsewhere with a run or a checkpoint, so it must not call arbitrary code. Exact names in
`config_folders` may be built. `trust=PACKAGE` (or MMATTN_TRUST) adds the classes that PACKAGE itself defines, for a run
whose configs are not on this machine.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmattn.config.folders import conf_dir, config_folders
from mmattn.config.overrides import nearest
from mmattn.errors import UsageError, first_line

TRUST = "MMATTN_TRUST"
NO_ENCODER = "mmattn.encoders.none.NoEncoder"  # visual=none, audio=none
NO_TAGS = "mmattn.tasks.none.NoTags"  # task=none
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_PLAIN = re.compile(r"^\s*_target_:\s*([\w.]+)\s*$", re.MULTILINE)  # the form in all packaged files


def check_target(key: str, value: Any) -> None:
    """Raises UsageError unless `value`, found at `key` of a config, may be built."""
    allowed = {target for folder in config_folders() for target in _named_in(folder)}
    if isinstance(value, str) and value in allowed:
        _check_installed(key, value)
        return
    package = value.partition(".")[0] if isinstance(value, str) and _DOTTED.fullmatch(value) else ""
    if not package or package == "mmattn" or package in sys.stdlib_module_names:
        raise UsageError(f"{key}: {value!r} is not a class that a config can choose{nearest(str(value), allowed)}")
    _check_installed(key, value)
    if package not in trusted():
        raise UsageError(
            f"{key}: {value!r} is code of the package {package}, which no config on this machine names; to run it, add "
            f"trust={package}, or name its configs with --config-dir DIR"
        )
    _check_own_class(key, value, package)


def _check_installed(key: str, target: str) -> None:
    package = target.partition(".")[0]
    if package not in sys.modules and find_spec(package) is None:
        raise UsageError(
            f"{key}: {target!r} needs the package {package}, which is not installed here; install it, or put its "
            "folder on PYTHONPATH"
        )


def _check_own_class(key: str, target: str, package: str) -> None:
    """Rejects what a trusted package only imports, such as my_fusion.os.system."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise UsageError(f"{key}: {target!r} cannot be imported ({error})") from None
    if not isinstance(found, type) or found.__module__.partition(".")[0] != package:
        raise UsageError(f"{key}: {target!r} is no class that {package} defines; trust={package} allows only those")


def packaged_targets() -> frozenset[str]:
    """The targets in the packaged configs, all of which may be built."""
    return _named_in(conf_dir())


@cache
def _named_in(folder: Path) -> frozenset[str]:
    files = sorted(folder.rglob("*.yaml"))
    if folder == conf_dir():
        return frozenset(target for file in files for target in _PLAIN.findall(file.read_text(encoding="utf-8")))
    return frozenset(target for file in files for target in _targets(_read(file)))


def _read(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file}: not YAML ({first_line(error)})") from None


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            yield target
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def trusted() -> frozenset[str]:
    """The packages in MMATTN_TRUST."""
    return frozenset(name for name in os.environ.get(TRUST, "").split(",") if name)


def check_trust(packages: Iterable[str]) -> str:
    """`packages` in the form of MMATTN_TRUST. Raises UsageError for mmattn, the standard library and invalid names."""
    for package in packages:
        if not package.isidentifier() or package == "mmattn" or package in sys.stdlib_module_names:
            raise UsageError(f"trust={package}: expected the name of an installed package, such as trust=my_fusion")
    return ",".join(packages)


@contextmanager
def environment(**changes: str | None) -> Iterator[None]:
    """Set environment variables while the body runs, also for processes started in it; None: unchanged."""
    changed = {name: value for name, value in changes.items() if value is not None}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
