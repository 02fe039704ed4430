"""Configs of transformers, reduced to the fields that their class declares: nothing in one can name code or files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmattn.encoders.pretrained.timm import UNSAFE
from mmattn.encoders.pretrained.transformers.library import _library
from mmattn.encoders.pretrained.weights import first_line
from mmattn.errors import UsageError

_TIMM_FIELDS = ("architecture", "do_pooling", "num_classes", "global_pool", "initializer_range")


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
