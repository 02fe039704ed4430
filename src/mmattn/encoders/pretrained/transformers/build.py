"""Models of the transformers library, from a local folder or from scratch. No code of a model's own is ever run.

A folder holds config.json and safetensors. Its config is reduced to the fields that the class itself declares, so
nothing in it can name code, kernels or other files. The classes that may be built are those of a `Family`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.encoders.pretrained.timm import UNSAFE
from mmattn.encoders.pretrained.transformers.preprocessing import APART, read_prepared
from mmattn.encoders.pretrained.weights import locate, read_json, read_tensors
from mmattn.errors import UsageError

_TIMM_FIELDS = ("architecture", "do_pooling", "num_classes", "global_pool", "initializer_range")


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


def _library() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise UsageError("this model needs transformers: pip install 'mmattn[encoders]'") from None


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


def _config(make: Any, values: Mapping[str, Any], where: str) -> Any:
    try:
        return make(**_declared(make, _modern(values)))
    except Exception as error:  # strict configs raise their own kinds, none with a common base
        raise UsageError(f"{where}: {first_line(error)}") from None


def _modern(values: Mapping[str, Any]) -> dict[str, Any]:
    """How rotary embeddings turn, where a config of before transformers 5 says it in two fields."""
    if "rope_theta" not in values or "rope_parameters" in values:
        return dict(values)
    scaling = dict(values.get("rope_scaling") or {})
    kind = scaling.pop("type", None) or scaling.pop("rope_type", "default")
    return {**values, "rope_parameters": {"rope_type": kind, "rope_theta": values["rope_theta"], **scaling}}


def _declared(make: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields that this class has beyond what all models' configs have."""
    own = _own_fields(make)
    return {name: _part(name, value) for name, value in values.items() if name in own}


def _part(name: str, value: Any) -> Any:
    """A config inside a config, held to the fields of the one kind that may stand there."""
    if name == "dac_config":
        return {"model_type": "dac", **_declared(_library().DacConfig, value)}
    if name == "vision_config":
        import timm

        if not timm.is_model(str(value.get("architecture"))):
            raise UsageError(f"vision_config.architecture: timm has no model {value.get('architecture')!r}")
        safe = {key: item for key, item in (value.get("model_args") or {}).items() if not key.startswith(UNSAFE)}
        return {"model_args": safe} | {key: value[key] for key in _TIMM_FIELDS if key in value}
    return value


def _own_fields(make: Any) -> set[str]:
    common = {field.name for field in dataclasses.fields(_library().PreTrainedConfig)}
    return {field.name for field in dataclasses.fields(make)} - common


def _fields(config: Any) -> dict[str, Any]:
    """Every declared field of a config as plain values, parts included."""
    plain = {}
    for name in sorted(_own_fields(type(config))):
        value = getattr(config, name)
        if name == "vision_config":
            value = {key: getattr(value, key) for key in (*_TIMM_FIELDS, "model_args")}
        elif isinstance(value, _library().PreTrainedConfig):
            value = _fields(value)
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


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


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no report of the tensors that belong to other parts."""
    logging = importlib.import_module("transformers.utils.logging")
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
