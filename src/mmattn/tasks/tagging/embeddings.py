"""Text embeddings of tags, read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError, first_line


def read_embeddings(path: Path, names: Sequence[str] | None = None) -> tuple[tuple[str, ...], Float[Tensor, "K E"]]:
    """The names and a row for each, scaled to length 1, from a .safetensors or .npz file with a vector for each name.

    `names` None: all of the file. Raises UsageError for missing names and invalid vectors. No code is executed.
    """
    vectors = _vectors(path)
    names = tuple(sorted(vectors)) if names is None else tuple(names)
    if absent := [name for name in names if name not in vectors]:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise UsageError(f"{path}: no embedding of the tag {absent[0]!r}{more}; add it with: mmattn data prompts")
    rows = [vectors[name].reshape(-1).float() for name in names]
    if not rows or len({len(row) for row in rows}) != 1 or not len(rows[0]):
        raise UsageError(f"{path}: expected one vector for each tag, all of the same length")
    found = torch.stack(rows)
    for name, row in zip(names, found, strict=True):
        if not row.isfinite().all() or not row.any():
            raise UsageError(f"{path}: the embedding of {name!r} is zero or not finite")
    return names, found / found.norm(dim=1, keepdim=True)


def _vectors(path: Path) -> dict[str, Tensor]:
    from zipfile import BadZipFile

    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix not in (".safetensors", ".npz"):
        raise UsageError(f"{path}: expected embeddings as .safetensors or .npz")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.asarray(arrays[name], dtype=np.float32)) for name in arrays.files}
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (SafetensorError, BadZipFile, OSError, TypeError, ValueError, KeyError, EOFError) as error:
        raise UsageError(f"{path}: cannot read embeddings ({first_line(error)})") from None
