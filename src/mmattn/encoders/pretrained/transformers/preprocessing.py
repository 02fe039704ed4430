"""The preprocessing that the folder of a transformers model describes.

transformers 5 saves processor_config.json, with a part for each kind of input; older versions saved
preprocessor_config.json. If a folder has both, the first one counts, as in the library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.pretrained.pixels import TRANSFORMERS, Interpolation
from mmattn.encoders.pretrained.weights import read_json
from mmattn.errors import UsageError

IMAGE_PROCESSOR, VIDEO_PROCESSOR, FEATURE_EXTRACTOR = "image_processor", "video_processor", "feature_extractor"
SEPARATE_FILES = {
    IMAGE_PROCESSOR: "preprocessor_config.json",
    VIDEO_PROCESSOR: "video_preprocessor_config.json",
    FEATURE_EXTRACTOR: "preprocessor_config.json",
}
_WHOLE = "processor_config.json"
_FILTERS: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def read_preprocessing(folder: Path, parts: Sequence[str]) -> dict[str, Any] | None:
    """The settings of the first of `parts` that the folder has; None if it has none of them."""
    whole = read_json(folder / _WHOLE) if (folder / _WHOLE).is_file() else {}
    for part in parts:
        if isinstance(settings := whole.get(part), dict):
            return settings
    for part in parts:
        if (folder / SEPARATE_FILES[part]).is_file():
            return read_json(folder / SEPARATE_FILES[part])
    return None


def image_settings(
    saved: Mapping[str, Any], family: Mapping[str, Any], given: Mapping[str, Any], image_size: int
) -> dict[str, Any]:
    """mean, std, interpolation, size and resize: as `given`, else as a processor `saved`, else as in the `family`.

    `saved` and `family` use the names of transformers' processors. `image_size`: the model's, if the folder names no
    size. size is (height, width); resize is the size before the centre crop to it. Raises UsageError for settings that
    are not supported.
    """
    own = {**family, **{name: value for name, value in saved.items() if value is not None}}
    default = own.get("size") or ({"shortest_edge": image_size} if own.get("do_center_crop") else image_size)
    if own.get("do_resize") is False:
        raise UsageError("do_resize=false is not supported: all frames of a clip need one size")
    resize = _sides(default, shortest="shortest_edge" in (family.get("size") or ()) or bool(own.get("do_center_crop")))
    size = _pair(_sides(own.get("crop_size") or image_size)) if own.get("do_center_crop") else _pair(resize)
    if own.get("resample", 3) not in _FILTERS:
        raise UsageError(f"resample={own['resample']}: expected 2 (bilinear) or 3 (bicubic)")
    if own.get("do_rescale") is False:
        raise UsageError("do_rescale=false is not supported: pixels are 0 to 255 and have to become 0 to 1")
    if abs(own.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise UsageError(f"rescale_factor={own.get('rescale_factor')}: expected 1 / 255")
    scaled = own.get("do_normalize") is not False
    settings = {
        "mean": list(own["image_mean"]) if scaled else [0.0] * 3,
        "std": list(own["image_std"]) if scaled else [1.0] * 3,
        "interpolation": _FILTERS[own.get("resample", 3)],
        "size": list(size),
        "resize": resize if isinstance(resize, int) else list(resize),
    }
    return settings | dict(given)


def frame_format(settings: Mapping[str, Any]) -> FrameFormat:
    """The frames that the settings of image_settings need."""
    resize = settings["resize"]
    return FrameFormat(
        _pair(settings["size"]),
        resize if isinstance(resize, int) else _pair(resize),
        TRANSFORMERS[settings["interpolation"]],
    )


def check_same(saved: Mapping[str, Any], folder: str | None, **supported: Any) -> None:
    """Raises UsageError if the `saved` settings of a folder differ from those that the front end here supports."""
    for name, value in supported.items():
        if saved.get(name, value) != value:
            raise UsageError(f"{folder}: its processor has {name}={saved[name]}, but only {value} is supported")


def _sides(size: Any, shortest: bool = False) -> int | tuple[int, int]:
    """The length of the shorter side, or (height, width)."""
    if isinstance(size, int):
        return size if shortest else (size, size)
    if isinstance(size, Mapping) and "shortest_edge" in size and "longest_edge" not in size:
        return int(size["shortest_edge"])
    if isinstance(size, Mapping) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    raise UsageError(f"size={size}: expected height and width, or shortest_edge")


def _pair(sides: int | Sequence[int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else (int(sides[0]), int(sides[1]))
