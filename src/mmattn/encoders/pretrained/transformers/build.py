"""Models of the transformers library, from a local folder or from scratch. No code of a model's own ever runs.

A folder holds config.json and safetensors. Only the classes of a `Family` can be built, from the fields that the config
class declares (see `config`), so a folder cannot name code, kernels or other files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.encoders.pretrained.transformers.config import build_config, config_fields
from mmattn.encoders.pretrained.transformers.library import quiet, transformers_library
from mmattn.encoders.pretrained.transformers.preprocessing import SEPARATE_FILES, read_preprocessing
from mmattn.encoders.pretrained.weights import locate, read_json, read_tensors
from mmattn.errors import UsageError, first_line


@dataclass(frozen=True)
class Family:
    """One kind of model.

    `config`, `model`: the names of its classes. `inside`: model_type of a larger model -> the place of this model's
    config in the larger one's. `optional`: prefixes of tensors that a folder may lack. `fixed`: fields that always have
    this value. `prefixes`: prefixes of this model's tensors in a larger model, where transformers does not find them.
    `processor`: parts of a processor; the first one that a folder has describes the preprocessing. Empty: none needed.
    """

    name: str
    model_type: str
    config: str
    model: str
    inside: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    processor: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A model, the architecture that builds it again, and the preprocessing that its folder describes."""

    model: Any
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]


def build_model(
    family: Family,
    pretrained: str | None,
    hub: bool,
    architecture: Mapping[str, Any] | None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Built:
    """From the folder `pretrained`, which brings its architecture, or from scratch. Raises UsageError.

    `preprocessing`: settings of the user; only with them may the folder lack a description of its own.
    """
    library = transformers_library()
    config_class, model_class = getattr(library, family.config), _class(library, family.model)
    if pretrained is None:
        config = build_config(config_class, {**(architecture or {}), **family.fixed}, "architecture")
        return Built(_from_scratch(model_class, config), config_fields(config), {})
    folder = locate(pretrained, hub, f"the config.json and *.safetensors of a {family.name} model into one folder")
    if not folder.is_dir():
        raise UsageError(f"pretrained={pretrained}: expected a folder with config.json and *.safetensors")
    config = build_config(config_class, {**_own_config(family, folder), **family.fixed}, str(folder))
    saved = read_preprocessing(folder, family.processor)
    if family.processor and saved is None and not preprocessing:
        raise UsageError(
            f"{folder}: no processor_config.json or {SEPARATE_FILES[family.processor[0]]} to describe the "
            "preprocessing; download the one of this model"
        )
    return Built(_load(model_class, config, folder, family), config_fields(config), saved or {})


def _class(library: Any, name: str) -> Any:
    for part in name.split("."):
        library = getattr(library, part)
    return library


def _own_config(family: Family, folder: Path) -> dict[str, Any]:
    """The config of this family in a folder's config.json, which may be that of a larger model."""
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind == family.model_type:
        return config
    part: Any = config if kind in family.inside else None
    for key in family.inside.get(str(kind), "").split("."):
        part = part.get(key) if isinstance(part, dict) else None
    if not isinstance(part, dict):
        raise UsageError(
            f"{folder}: holds a {kind!r} model, not a {family.name}; name the folder of such a model, or choose an "
            "encoder for the one that you have (docs/encoders.md; visual=timm has most image networks)"
        )
    return part


def _from_scratch(model_class: Any, config: Any) -> Any:
    try:
        return model_class(config)
    except (TypeError, ValueError, RuntimeError, AttributeError, ImportError) as error:
        raise UsageError(f"architecture: {first_line(error)}") from None


def _load(model_class: Any, config: Any, folder: Path, family: Family) -> Any:
    with quiet():
        try:
            model, info = model_class.from_pretrained(
                None,
                config=config,
                state_dict=_own_tensors(read_tensors(folder), family.prefixes),
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"{folder}: {first_line(error)}") from None
    missing = [name for name in sorted(info["missing_keys"]) if not name.startswith(family.optional or ("\0",))]
    check_none_missing(missing, folder, family.name)
    return model


def _own_tensors(tensors: dict[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors under the first of `prefixes` that occurs, without it; all if none does."""
    for prefix in prefixes:
        if part := {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}:
            return part
    return tensors


def check_none_missing(missing: list[str], folder: Path, name: str) -> None:
    """Raises UsageError if weights of the model `name` are `missing` in its folder."""
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(f"{folder}: weights of a {name} are missing: {missing[0]}{more}")
