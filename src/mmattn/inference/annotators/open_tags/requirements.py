"""What the annotator open_tags needs before its model is loaded: a model folder, tags and valid settings. No torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mmattn.errors import UsageError
from mmattn.inference.annotators.base.model_folder import LIBRARY, Settings, check_folder, how_to_get
from mmattn.inference.tag_list import given_tags

if TYPE_CHECKING:
    from mmattn.types import Modality

HOP_S = 9.6  # of the windows that all annotators share
TAGGERS: dict[str, tuple[Modality, ...]] = {  # model_type: the modalities that it can use
    "clip": ("video",),
    "siglip": ("video",),
    "siglip2": ("video",),
    "clap": ("audio",),
    "pe_audio_video": ("video", "audio"),
}


def missing(own: Settings, config: Settings) -> str | None:
    """What is missing and how to get it, None if nothing is. Raises UsageError for a wrong setting."""
    if find_spec("transformers") is None:
        return LIBRARY
    check_step("open_tags", own["step_s"])
    check_prompts("open_tags", own["templates"])
    if own["pretrained"] is None:
        return how_to_get("google/siglip2-base-patch16-224", "siglip2", "open_tags.pretrained=weights/siglip2")
    if own["tags"] is None:
        return "your tags: open_tags.tags=tags.txt, a tag a line, or open_tags.tags=[dog,rain]"
    given_tags(own["tags"], "open_tags.tags")
    check_folder("open_tags", str(own["pretrained"]), config, TAGGERS)
    return None


def check_step(annotator: str, step_s: float | None) -> None:
    """Raise UsageError for a step that does not divide the windows evenly."""
    if step_s is not None and not (step_s > 0 and abs(HOP_S / step_s - round(HOP_S / step_s)) < 1e-6):
        raise UsageError(
            f"{annotator}.step_s={step_s}: expected {HOP_S} s divided by a whole number, such as 0.48, 0.96, 2.4 or 4.8"
        )


def check_prompts(annotator: str, templates: Any) -> None:
    """Raise UsageError for templates without a place for the tag."""
    if isinstance(templates, str) or not templates or any("{}" not in str(one) for one in templates):
        raise UsageError(f"{annotator}.templates={templates}: expected sentences with {{}} where the tag stands")
