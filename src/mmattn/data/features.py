"""Training from tokens that frozen encoders made once (mmattn data features): nothing is decoded or encoded again.

A folder holds the encoders themselves, so it needs neither the run that they came from nor the media. The model gets
frozen copies of them, which stand aside while batches carry tokens: what is trained predicts from files.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from mmattn.config import Config
from mmattn.data.augment import Augment
from mmattn.data.keys import Key
from mmattn.data.labels import TagVocabulary
from mmattn.data.loader import EpochLoader, leave_signals
from mmattn.data.made import read_made
from mmattn.data.manifest import Row, read_manifest
from mmattn.data.quarantine import Quarantine
from mmattn.data.sampler import Item
from mmattn.data.sources import Source
from mmattn.data.splits import SplitData
from mmattn.data.transforms import ClipSpec
from mmattn.errors import UsageError
from mmattn.types import MODALITIES, Batch, Modality, Tokens

FEATURES_FILE = "features.json"
ENCODERS_FILE = "encoders.safetensors"
MANIFEST_FILE = "manifest.jsonl"
COMMAND = "data features run=RUN data.root=DIR"
CLIPS_KEY = "clips"  # in a file's metadata
OPEN_FILES = 64


@dataclass(frozen=True)
class FeatureSource(Source):
    """What `mmattn data features` made in `root`. Labels may be changed in its manifest.jsonl."""

    root: str

    @property
    def folder(self) -> Path:
        return Path(self.root).expanduser()

    def rows(self) -> list[Row]:
        """Raises UsageError for features that are unfinished, missing or of another size than they were made with."""
        made = self.made()
        for name, size in made["files"].items():
            file = self.folder / name
            if not file.is_file() or file.stat().st_size != size:
                raise UsageError(f"{file}: not the {size} bytes that were made; copy it or make the features again")
        return read_manifest(self.folder / MANIFEST_FILE)

    def made(self) -> dict[str, Any]:
        return read_made(self.folder, FEATURES_FILE, COMMAND)["made"]

    def clip(self) -> ClipSpec:
        return ClipSpec(**read_made(self.folder, FEATURES_FILE, COMMAND)["recipe"]["clip"])


def with_frozen_encoders(config: Config) -> Config:
    """A config whose `data` is features, with the encoders and the clip they were made by; others as they are.

    Raises UsageError where the model has another number of channels.
    """
    if "encoders" not in config["data"]:
        return config
    data = config["data"]
    source = FeatureSource(data["source"]["root"])
    made = source.made()
    if config["dim"] != made["dim"]:
        raise UsageError(f"{source.folder}: its tokens have {made['dim']} channels, the model {config['dim']}; "
                         f"set dim={made['dim']}")  # fmt: skip
    parts = {
        name: {"_target_": data["encoders"][name]["_target_"], "encoder": made[name]} for name in ("visual", "audio")
    }
    return {**config, **parts, "data": {**data, "clip": source.clip().to_dict()}}


class Stream(NamedTuple):
    """One modality of one clip."""

    values: Tensor  # (L, D)
    keep: Tensor  # (L,)
    times: Tensor  # (L,) s


class FeatureFiles:
    """The tokens of each clip by its id, read at their place; few files are open at a time."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._places: dict[str, tuple[Path, int]] = {}
        for name in names:
            for slot, clip_id in enumerate(listed_clips(folder / name)["ids"]):
                self._places[clip_id] = folder / name, slot

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._places

    def read(self, clip_id: str) -> dict[Modality, Stream]:
        path, slot = self._places[clip_id]
        file = self._file(path)
        return {
            name: Stream(*(file.get_slice(f"{name}.{part}")[slot] for part in Stream._fields)) for name in MODALITIES
        }

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        self._open.move_to_end(path)
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        return self._open[path]

    def __getstate__(self) -> dict[str, Any]:
        return {"_places": self._places, "_open": OrderedDict()}


def listed_clips(path: Path) -> dict[str, Any]:
    """What a file says it holds: `ids` in their order, and the `unreadable`. Raises UsageError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()[CLIPS_KEY])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not a file of features ({error})") from None


class Featured(NamedTuple):
    id: str
    streams: dict[Modality, Stream]
    target: Tensor


class FeatureDataset(Dataset[Featured]):
    """`dataset[(epoch, index)]`. `modality_dropout`: as Augment's, with the same draws."""

    def __init__(
        self,
        rows: Sequence[Row],
        files: FeatureFiles,
        vocabulary: TagVocabulary,
        clip: ClipSpec,
        *,
        modality_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.rows = rows
        self.files = files
        self.vocabulary = vocabulary
        self.clip = clip
        self.modality_dropout = modality_dropout
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: Item) -> Featured:
        key = Key(self.seed, *item)
        row = self.rows[key.index]
        streams = self.files.read(row.id)
        if self.modality_dropout and all(stream.keep.any() for stream in streams.values()):
            draw = key.stream("modality_dropout").random()
            for place, name in enumerate(("audio", "video")):
                if place <= draw / self.modality_dropout < place + 1:
                    streams[name] = streams[name]._replace(keep=torch.zeros_like(streams[name].keep))
        return Featured(row.id, streams, self.vocabulary.encode(row.tags))

    def collate(self, items: Sequence[Featured]) -> Batch:
        """A batch of tokens. Its frames and spectrogram have no length."""
        tokens: dict[Modality, Tokens] = {name: _stack([item.streams[name] for item in items]) for name in MODALITIES}
        clips, nothing = len(items), torch.zeros(len(items), 0)
        return Batch(
            frames=torch.zeros(clips, 0, 3, self.clip.height, self.clip.width, dtype=torch.uint8),
            frame_keep=nothing.bool(),
            frame_times=nothing,
            spectrogram=torch.zeros(clips, 0, self.clip.mels),
            spectrogram_keep=nothing.bool(),
            spectrogram_times=nothing,
            ids=tuple(item.id for item in items),
            targets={"tags": torch.stack([item.target for item in items])},
            features=tokens,
        )


def _stack(streams: Sequence[Stream]) -> Tokens:
    values, keep, times = (torch.stack(part) for part in zip(*streams, strict=True))
    return Tokens(values.float(), keep, times)


@dataclass(frozen=True, kw_only=True)
class FeatureData(SplitData):
    """`data=features` of a config."""

    source: FeatureSource
    modality_dropout: float

    def __post_init__(self) -> None:
        if not 0 <= self.modality_dropout <= 0.5:
            raise UsageError(f"data.modality_dropout={self.modality_dropout}: expected 0 to 0.5, for each of two")

    @cached_property
    def files(self) -> FeatureFiles:
        names = [name for name in self.source.made()["files"] if name != ENCODERS_FILE]
        return FeatureFiles(self.source.folder, names)

    @cached_property
    def quarantine(self) -> Quarantine:
        return Quarantine(0.0)

    def close(self) -> None:
        self.__dict__.pop("files", None)

    def check_readable(self) -> None:
        for rows in self.rows.values():
            if strange := [row.id for row in rows if row.id not in self.files]:
                raise UsageError(f"{self.source.folder}: no features of {strange[0]!r} ({len(strange)} such clips)")

    def dataset(
        self,
        split: str,
        *,
        train: bool = False,
        vocabulary: TagVocabulary | None = None,
        augment: Augment | None = None,
    ) -> FeatureDataset:
        if augment is not None:
            raise UsageError(f"{self.source.folder}: features hold neither sound nor picture that could be changed")
        self.check_readable()
        return FeatureDataset(
            self.rows[split],
            self.files,
            vocabulary or self.vocabulary,
            self.clip,
            modality_dropout=self.modality_dropout if train else 0.0,
            seed=self.seed,
        )

    def loader(self, dataset: FeatureDataset, *, train: bool, rank: int = 0, world: int = 1) -> EpochLoader:
        return EpochLoader(
            dataset,
            batch_sampler=self.sampler(dataset.rows, train=train, rank=rank, world=world),
            num_workers=self.workers,
            collate_fn=dataset.collate,
            persistent_workers=self.workers > 0,
            worker_init_fn=leave_signals,
        )

    def encoder_weights(self) -> dict[str, Tensor]:
        """Raises UsageError if they are not those that made the tokens."""
        from safetensors.torch import load_file

        weights = load_file(self.source.folder / ENCODERS_FILE)
        return {name.replace(".", ".encoder.", 1): tensor for name, tensor in weights.items()}
