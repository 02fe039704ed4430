"""The folders of configs: the user's, the packaged conf/, and those of installed packages, in this order.

The user sets one with `--config-dir DIR` or MMATTN_CONFIG_DIR. A package registers its own by an entry point of the
group `mmattn.configs`, whose value is the folder as a module path: `my_fusion = "my_fusion.conf"`. A file of the user
replaces one of ours of the same name; a file of a package does not. No torch, and no package is imported.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from mmattn.errors import UsageError

CONFIG_DIR = "MMATTN_CONFIG_DIR"
ENTRY_POINTS = "mmattn.configs"


@cache
def conf_dir() -> Path:
    """The packaged conf/: inside an installed wheel, or at the top of a checkout."""
    here = Path(__file__).resolve()
    for candidate in (here.parents[1] / "conf", here.parents[3] / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise UsageError(f"mmattn's conf/ was not found beside {here.parent}; reinstall mmattn")


def named_folder() -> Path | None:
    """The user's folder, if set. Raises UsageError where it does not exist."""
    if not (named := os.environ.get(CONFIG_DIR)):
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UsageError(f"--config-dir {named}: no such folder (it may come from {CONFIG_DIR})")
    return folder.resolve()


def config_folders() -> list[Path]:
    """In order of precedence: a file is taken from the first folder that has it."""
    named = named_folder()
    return [*([named] if named else []), conf_dir(), *offered_folders().values()]


@cache
def offered_folders() -> dict[str, Path]:
    """Folders of installed packages by entry point; missing folders are skipped."""
    found = {point.name: _folder_of(point) for point in entry_points(group=ENTRY_POINTS)}
    return {name: folder for name, folder in sorted(found.items()) if folder is not None}


def _folder_of(point: EntryPoint) -> Path | None:
    """Looks up only the top package, which imports nothing."""
    package, *inside = point.value.replace(":", ".").split(".")
    spec = find_spec(package)
    places = [Path(place).joinpath(*inside) for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_dir()), None)


def config_file(relative: str) -> Path | None:
    """The file such as "fusion/cross.yaml" that takes precedence, or None."""
    return next((file for folder in config_folders() if (file := folder / relative).is_file()), None)


def group_choices(group: str) -> list[str]:
    """The choices of a group."""
    return sorted({path.stem for folder in config_folders() for path in (folder / group).glob("*.yaml")})


@cache
def _defaults() -> list[tuple[str, str | None]]:
    """(group, default choice) in the defaults lists of all verbs, those of train first. Groups may repeat."""
    import yaml

    found = []
    for path in sorted(conf_dir().glob("*.yaml"), key=lambda path: (path.stem != "train", path.stem)):
        text = path.read_text(encoding="utf-8")
        if "\ndefaults:" not in f"\n{text}":
            continue
        for entry in yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)).get("defaults", ()):
            if isinstance(entry, dict):
                found += [(key, choice) for key, choice in entry.items() if "@" not in key]
    return found


def packaged_groups() -> tuple[str, ...]:
    """The groups of all verbs, in the order of their defaults lists."""
    return tuple(dict.fromkeys(group for group, _ in _defaults()))


def optional_groups() -> tuple[str, ...]:
    """Groups that accept =null: their default is null wherever they appear."""
    always = {group for group, choice in _defaults() if choice is not None}
    return tuple(dict.fromkeys(group for group, choice in _defaults() if choice is None and group not in always))


def is_group(name: str) -> bool:
    """Whether `name` is a packaged group, or a folder of yaml files of the user or a package."""
    if name in packaged_groups():
        return True
    own = [folder for folder in config_folders() if folder != conf_dir()]
    return bool(name) and "/" not in name and any(any((folder / name).glob("*.yaml")) for folder in own)
