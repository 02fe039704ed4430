"""Models of the transformers library, from a local folder or from scratch. No code of a model's own is ever run.

A folder holds config.json and safetensors. Its config is reduced to the fields that the class itself declares, so
nothing in it can name code, kernels or other files. The classes that may be built are those of a `Family`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.encoders.pretrained.transformers.config import _config, _fields
from mmattn.encoders.pretrained.transformers.library import _library, quiet
from mmattn.encoders.pretrained.transformers.preprocessing import APART, read_prepared
from mmattn.encoders.pretrained.weights import first_line, locate, read_json, read_tensors
from mmattn.errors import UsageError


@dataclass(frozen=True)
class Family:
    """One kind of model: its classes' names, and where its config lies in those of the models that contain it.

    `inside`: model_type of the whole -> where in its config this part's is. `optional`: beginnings of tensors that a
    folder may lack. `fixed`: fields that are the same whatever a folder says. `prefixes`: what the names of this
    part's tensors begin with in the whole, where transformers does not find that out by itself. `prepared`: parts of a
    processor, the first of which that a folder has says how input is prepared; empty: nothing has to.
    """

    name: str
    model_type: str
    config: str
    model: str
    inside: Mapping[str, str] = dataclasses.field(default_factory=dict)
    optional: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A model, the architecture that builds it again, and what the folder says about preparing its input."""

    model: Any
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]


def build_model(
    family: Family,
    pretrained: str | None,
    hub: bool,
    architecture: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
) -> Built:
    """From the folder `pretrained`, whose architecture it is then, or from scratch. Raises UsageError.

    `preprocessing`: settings that were given; only then may the folder's own be missing.
    """
    library = _library()
    make_config, make_model = getattr(library, family.config), _class(library, family.model)
    if pretrained is None:
        config = _config(make_config, {**architecture, **family.fixed}, "architecture")
        return Built(_made(make_model, config), _fields(config), {})
    folder = locate(pretrained, hub, f"the config.json and *.safetensors of a {family.name} model into one folder")
    if not folder.is_dir():
        raise UsageError(f"pretrained={pretrained}: expected a folder with config.json and *.safetensors")
    config = _config(make_config, {**_own_part(family, folder), **family.fixed}, str(folder))
    prepared = read_prepared(folder, family.prepared)
    if family.prepared and prepared is None and not preprocessing:
        raise UsageError(
            f"{folder}: neither processor_config.json nor {APART[family.prepared[0]]} says how its input is prepared; "
            "download the one that its model has"
        )
    model = _loaded(make_model, config, folder, family)
    return Built(model, _fields(config), prepared or {})


def _class(library: Any, name: str) -> Any:
    for part in name.split("."):
        library = getattr(library, part)
    return library


def _own_part(family: Family, folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind == family.model_type:
        return config
    part: Any = config if kind in family.inside else None
    for key in family.inside.get(str(kind), "").split("."):
        part = part.get(key) if isinstance(part, dict) else None
    if not isinstance(part, dict):
        raise UsageError(f"{folder}: holds a {kind!r} model, not a {family.name}")
    return part


def _made(make: Any, config: Any) -> Any:
    try:
        return make(config)
    except (TypeError, ValueError, RuntimeError, AttributeError, ImportError) as error:
        raise UsageError(f"architecture: {first_line(error)}") from None


def _loaded(make: Any, config: Any, folder: Path, family: Family) -> Any:
    tensors = read_tensors(folder)
    for prefix in family.prefixes:
        if part := {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}:
            tensors = part
            break
    with quiet():
        try:
            model, info = make.from_pretrained(
                None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"{folder}: {first_line(error)}") from None
    missing = [name for name in sorted(info["missing_keys"]) if not name.startswith(family.optional or ("\0",))]
    if missing:
        raise UsageError(f"{folder}: its weights lack {missing[0]} and {len(missing) - 1} more of a {family.name}")
    return model
