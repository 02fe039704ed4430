#!/usr/bin/env python3
"""Writes yamnet.safetensors beside a folder's yamnet.tflite; afterwards the package tflite is not needed to read it."""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save

from mmattn.encoders.pretrained.yamnet.weights import PUBLISHED, WEIGHTS, load_yamnet
from mmattn.errors import UsageError
from mmattn.files import write_atomically


def convert(folder: Path) -> Path:
    """Returns the file that was written. Raises UsageError."""
    network = load_yamnet(str(folder / PUBLISHED))
    write_atomically(
        folder / WEIGHTS, save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    )
    return folder / WEIGHTS


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: convert_yamnet.py FOLDER")
    try:
        print(convert(Path(sys.argv[1])))
    except UsageError as error:
        sys.exit(str(error))
