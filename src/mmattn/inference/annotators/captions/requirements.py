"""What the annotator captions needs before its model is loaded: a model or an address, and valid settings. No torch."""

from __future__ import annotations

import ipaddress
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators.base.model_folder import LIBRARY, Settings, check_folder, how_to_get, kind_of
from mmattn.inference.sentences import source as sentences

if TYPE_CHECKING:
    from mmattn.types import Modality

CAPTIONERS: dict[str, tuple[Modality, ...]] = {  # model_type: the modalities that it can use
    "qwen2_5_omni": ("video", "audio"),
    "qwen2_5_omni_thinker": ("video", "audio"),
    "qwen3_omni_moe": ("video", "audio"),
    "qwen3_omni_moe_thinker": ("video", "audio"),
    "gemma4": ("video", "audio"),
    "smolvlm": ("video",),
}
LEVELS = ("shots", "chapters", "summary")
_CHOICES = {"by": ("shots", "windows"), "dtype": ("auto", "bf16", "16", "32")}


def missing(own: Settings, config: Settings) -> str | None:
    """What is missing and how to get it, None if nothing is. Raises UsageError for a wrong setting."""
    if own["endpoint"] is None and find_spec("transformers") is None:
        return LIBRARY
    if own["pretrained"] is None and own["endpoint"] is None:
        then = "set captions.pretrained=weights/qwen2.5-omni-3b, or captions.endpoint= to a server of yours"
        return how_to_get("Qwen/Qwen2.5-Omni-3B", "qwen2.5-omni-3b", then)
    check_settings(own)
    embeddings_source(own)
    if own["by"] == "shots" and "video" in config["modalities"] and find_spec("scenedetect") is None:
        return "PySceneDetect: pip install 'scenedetect-headless>=0.7,<0.8', or set captions.by=windows"
    return None if own["pretrained"] is None else _missing_for_model(own, config)


def _missing_for_model(own: Settings, config: Settings) -> str | None:
    check_folder("captions", str(own["pretrained"]), config, CAPTIONERS)
    if own["device_map"] is not None and find_spec("accelerate") is None:
        return "accelerate for captions.device_map: pip install accelerate"
    folder = expanded(str(own["pretrained"]))
    if folder.is_dir() and kind_of(folder) == "smolvlm" and find_spec("num2words") is None:
        return "num2words for SmolVLM's prompts: pip install num2words"
    return None


def check_settings(own: Settings) -> None:
    """Raise UsageError for settings that are wrong or exclude each other."""
    if (own["pretrained"] is None) == (own["endpoint"] is None):
        raise UsageError("captions: give either captions.pretrained= or captions.endpoint=")
    for key, allowed in _CHOICES.items():
        if str(own[key]) not in allowed:
            raise UsageError(f"captions.{key}={own[key]}: expected {' or '.join(allowed)}")
    if not own["levels"] or not set(own["levels"]) <= set(LEVELS):
        raise UsageError(f"captions.levels={list(own['levels'])}: expected some of {', '.join(LEVELS)}")
    for key in ("max_s", "fps", "max_tokens", "batch_size", "timeout_s"):
        if not own[key] > 0:
            raise UsageError(f"captions.{key}={own[key]}: expected a number above 0")
    for key in ("longest_side", "retries"):
        if own[key] < 0:
            raise UsageError(f"captions.{key}={own[key]}: expected 0 or more")
    if own["endpoint"] is not None:
        _check_endpoint(str(own["endpoint"]), own)


def _check_endpoint(endpoint: str, own: Settings) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"captions.endpoint={endpoint}: expected an address such as http://127.0.0.1:8000/v1")
    if not own["remote"] and not is_loopback(endpoint):
        raise UsageError(
            f"captions.endpoint={endpoint}: is another machine, and frames and audio would be sent there; allow "
            "that with captions.remote=true"
        )
    if own["key_env"] is not None and not os.environ.get(str(own["key_env"])):
        raise UsageError(f"captions.key_env={own['key_env']}: no such variable in the environment")


def is_loopback(endpoint: str) -> bool:
    """Whether the host of an address is this machine, by name or number."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def embeddings_source(own: Settings) -> str | None:
    """The source of sentence embeddings, None for none. Raises UsageError if it does not exist."""
    given = own["embeddings"]
    if given == "none":
        return None
    if given == "auto":
        return sentences.PACKAGE if sentences.is_installed() else None
    if given == sentences.PACKAGE and not sentences.is_installed():
        raise UsageError(f"captions.embeddings=package: {sentences.INSTALL}")
    if given != sentences.PACKAGE and not expanded(str(given)).is_dir():
        raise UsageError(f"captions.embeddings={given}: expected auto, package, none or a folder")
    return str(given)
