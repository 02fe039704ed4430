"""What can be told of open_tags and captions before any model is loaded: their settings, and what a folder holds.

Needs no torch: it is asked before any work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.tag_list import given_tags

HOP_S = 9.6  # of the windows that all annotators share
TAGGERS = {  # model_type: the streams that it can use
    "clip": ("video",),
    "siglip": ("video",),
    "siglip2": ("video",),
    "clap": ("audio",),
    "pe_audio_video": ("video", "audio"),
}
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
