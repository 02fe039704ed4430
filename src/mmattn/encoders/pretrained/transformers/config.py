"""Configs of transformers, reduced to the fields that their class declares, so that none can name code or files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmattn.encoders.pretrained.timm import UNSAFE
from mmattn.encoders.pretrained.transformers.library import transformers_library
from mmattn.errors import UsageError, first_line

_TIMM_FIELDS = ("architecture", "do_pooling", "num_classes", "global_pool", "initializer_range")


def build_config(config_class: Any, values: Mapping[str, Any], where: str) -> Any:
    """A config with the declared fields among `values`. Raises UsageError that names `where` they come from."""
    try:
        return config_class(**_declared(config_class, _with_rope_parameters(values)))
    except Exception as error:  # strict configs raise errors of several kinds, without a common base
        raise UsageError(f"{where}: {first_line(error)}") from None


def config_fields(config: Any) -> dict[str, Any]:
    """Every declared field of a config as plain values, nested configs included."""
    plain = {}
    for name in sorted(_own_fields(type(config))):
        value = getattr(config, name)
        if name == "vision_config":
            value = {key: getattr(value, key) for key in (*_TIMM_FIELDS, "model_args")}
        elif isinstance(value, transformers_library().PreTrainedConfig):
            value = config_fields(value)
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


def _with_rope_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary embeddings in one field, as since transformers 5; earlier configs have rope_theta and rope_scaling."""
    if "rope_theta" not in values or "rope_parameters" in values:
        return dict(values)
    scaling = dict(values.get("rope_scaling") or {})
    kind = scaling.pop("type", None) or scaling.pop("rope_type", "default")
    return {**values, "rope_parameters": {"rope_type": kind, "rope_theta": values["rope_theta"], **scaling}}


def _declared(config_class: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the fields that this class declares beyond those of all configs."""
    own = _own_fields(config_class)
    return {name: _nested(name, value) for name, value in values.items() if name in own}


def _nested(name: str, value: Any) -> Any:
    """A nested config, restricted to the fields of the one kind that is allowed there."""
    if name == "dac_config":
        return {"model_type": "dac", **_declared(transformers_library().DacConfig, value)}
    if name == "vision_config":
        import timm

        if not timm.is_model(str(value.get("architecture"))):
            raise UsageError(f"vision_config.architecture: timm has no model {value.get('architecture')!r}")
        safe = {key: item for key, item in (value.get("model_args") or {}).items() if not key.startswith(UNSAFE)}
        return {"model_args": safe} | {key: value[key] for key in _TIMM_FIELDS if key in value}
    return value


def _own_fields(config_class: Any) -> set[str]:
    common = {field.name for field in dataclasses.fields(transformers_library().PreTrainedConfig)}
    return {field.name for field in dataclasses.fields(config_class)} - common
