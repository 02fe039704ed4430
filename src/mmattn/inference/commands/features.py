"""`mmattn data features`: runs the encoders of a trained run on every clip once and stores their tokens.

Tokens are written in files of some clips each, complete or absent, in the order of the rows. A run that was killed
continues after the last file. Batches do not depend on where a run starts, so neither do the files.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.checkpoint import Checkpoint, load_model
from mmattn.config.compose import Config
from mmattn.data.build import build_data
from mmattn.data.features.files import CLIPS_KEY, listed_clips
from mmattn.data.features.source import COMMAND, ENCODERS_FILE, FEATURES_FILE, MANIFEST_FILE, encoders_hash
from mmattn.data.load.cache import ClipCache
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.dataset import ClipDataset, missing_clip, stack_samples
from mmattn.data.load.loader import ClipLoader
from mmattn.data.load.quarantine import Quarantine
from mmattn.data.load.sampler import GlobalBatchSampler
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.manifest.write import write_manifest
from mmattn.data.output_folder import finished, is_finished, labels_hash, making, read_made, refresh_labels, rows_hash
from mmattn.data.prepare.clips import PaddedClip, Sample
from mmattn.errors import UsageError, first_line
from mmattn.files import check_utf8, expanded, write_atomically
from mmattn.model import AVModel, without_files
from mmattn.progress import Progress
from mmattn.text import counted
from mmattn.types import MODALITIES, Batch

FILE_BYTES = 256 << 20  # at most; a file has fewer clips if tokens are large
BATCH = 16  # clips
UNREADABLE_FILE = "unreadable.jsonl"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def make_features(config: Config) -> str:
    """Fill the folder `out`; returns a summary. Raises UsageError if the folder was made with another recipe."""
    from safetensors.torch import save

    if config["dtype"] not in DTYPES:
        raise UsageError(f"dtype={config['dtype']}: expected {', '.join(DTYPES)}")
    checkpoint = load_model(Path(str(config["run"])))
    data = build_data(config["data"])
    if not isinstance(data, ClipData):
        raise UsageError("features are made from clips; choose data=folder, data=shards or another set of media")
    data = replace(data, clip=checkpoint.clip)
    rows = data.source.rows()
    root = check_utf8(expanded(str(config["out"])))
    encoders = {name: without_files(checkpoint.config)[name] for name in ("visual", "audio")}
    weights = {name: value for name, value in checkpoint.model.state_dict().items() if name.split(".")[0] in encoders}
    recipe = {
        "encoders": encoders_hash(weights, encoders),
        "clip": checkpoint.clip.to_dict(),
        "span": "center" if data.span == "random" else data.span,
        "dtype": config["dtype"],
        "clips_per_file": config["clips_per_file"],
        "rows": rows_hash(rows),
    }
    with making(root, FEATURES_FILE, recipe), closing(data.reader):
        if not is_finished(root, FEATURES_FILE):
            write_atomically(root / ENCODERS_FILE, save({k: v.contiguous() for k, v in weights.items()}))
            model, dtype = _on(checkpoint, config["device"]), DTYPES[config["dtype"]]
            made = _FeatureWriter(root, data, rows, model, dtype, config["clips_per_file"]).write()
            made |= {**encoders, "dim": checkpoint.model.visual.dim, "labels": labels_hash(rows)}
            finished(root, FEATURES_FILE, recipe, made)
        refresh_labels(root, FEATURES_FILE, root / MANIFEST_FILE, rows, _labelled)
    return _summary(root)


def _on(checkpoint: Checkpoint, device: str) -> AVModel:
    try:
        return checkpoint.model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: {first_line(error)}") from None


@dataclass
class _FeatureWriter:
    root: Path
    data: ClipData
    rows: Sequence[Row]
    model: AVModel
    dtype: torch.dtype
    clips_per_file: int

    def write(self) -> dict[str, Any]:
        """Write all files, then the manifest; returns a description of them."""
        size = self._clips_in_file()
        files = [self.root / f"features-{k:06d}.safetensors" for k in range(-(-len(self.rows) // size))]
        done = next((k for k, file in enumerate(files) if not file.is_file()), len(files))
        with Progress("encoding", len(self.rows), begun=min(done * size, len(self.rows))) as progress:
            batches = self._batches(self.rows[done * size :])
            for k in range(done, len(files)):
                count = min(size, len(self.rows) - k * size)
                write_atomically(files[k], _file(itertools.islice(batches, -(-count // BATCH)), self.data.quarantine))
                progress.at(k * size + count)
        file_of, bad = {}, []
        for file in files:
            listed = listed_clips(file)
            file_of |= dict.fromkeys(listed["ids"], file)
            bad += listed["unreadable"]
        if not file_of:
            raise UsageError(f"none of {counted(len(self.rows), 'clip')} is readable; the first: {bad[0]}")
        good = [replace(row, path=file_of[row.id], offset=None, size=None) for row in self.rows if row.id in file_of]
        write_manifest(good, self.root / MANIFEST_FILE)
        write_atomically(self.root / UNREADABLE_FILE, "".join(json.dumps(record) + "\n" for record in bad).encode())
        sizes = {file.name: file.stat().st_size for file in [*files, self.root / ENCODERS_FILE]}
        return {"clips": len(good), "unreadable": len(bad), "files": sizes}

    def _clips_in_file(self) -> int:
        """Clips of a file of at most about 256 MB: a whole number of batches."""
        empty = stack_samples([self.data.clip.finish(missing_clip(self.data.clip))], [""], self.data.clip)
        size = sum(tensor.nbytes for tensor in self._tokens(empty).values())
        return max(1, min(self.clips_per_file, FILE_BYTES // size) // BATCH) * BATCH

    def _batches(self, rows: Sequence[Row]) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """Each batch of `rows` with the tokens of its clips, under their names in a file."""
        data, span = self.data, "center" if self.data.span == "random" else self.data.span
        untagged = [replace(row, tags=()) for row in rows]
        cache: ClipCache[PaddedClip | Sample] = ClipCache(len(rows), data.clip.finish(missing_clip(data.clip)), 0)
        dataset = ClipDataset(untagged, data.clip, TagVocabulary(()), data.reader, cache, span=span)
        sampler = GlobalBatchSampler(len(rows), BATCH, seed=0, train=False)
        loading = {"workers": data.workers, "quarantine": data.quarantine, "clip_s": data.deadline_s}
        for batch in ClipLoader(dataset, sampler, **loading):
            yield batch, self._tokens(batch)

    def _tokens(self, batch: Batch) -> dict[str, Tensor]:
        with torch.inference_mode():
            streams = zip(MODALITIES, self.model.encode(batch.to(next(self.model.parameters()).device)), strict=True)
        parts = {
            f"{name}.{part}": value.cpu()
            for name, s in streams
            for part, value in vars(s).items()
            if isinstance(value, Tensor)
        }
        return {k: v.to(self.dtype) if k.endswith(".values") else v for k, v in parts.items()}


def _file(batches: Iterator[tuple[Batch, dict[str, Tensor]]], quarantine: Quarantine) -> bytes:
    """A file with the tokens and ids of the clips that could be read, and the reasons for the others."""
    from safetensors.torch import save

    ids: list[str] = []
    unreadable: list[dict[str, str]] = []
    kept: dict[str, list[Tensor]] = {}
    for batch, tokens in batches:
        for name, real in zip(batch.ids, batch.real.tolist(), strict=True):
            if real:
                ids.append(name)
            else:
                unreadable.append({"id": name, **quarantine.reasons[name]})
        for name, values in tokens.items():
            kept.setdefault(name, []).append(values[batch.real])
    metadata = {CLIPS_KEY: json.dumps({"ids": ids, "unreadable": unreadable})}
    return save({name: torch.cat(parts) for name, parts in kept.items()}, metadata=metadata)


def _labelled(kept: Row, row: Row) -> Row:
    names = ("tags", "captions", "families", "segments", "tag_scores")
    return replace(kept, **{name: getattr(row, name) for name in names})


def _summary(root: Path) -> str:
    made = read_made(root, FEATURES_FILE, COMMAND)["made"]
    text = f"tokens of {counted(made['clips'], 'clip')}, {sum(made['files'].values()) / 1e6:.1f} MB -> {root}"
    if made["unreadable"]:
        text += f"; {made['unreadable']} could not be read, listed in {root / UNREADABLE_FILE}"
    return text
