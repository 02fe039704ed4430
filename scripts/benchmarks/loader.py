"""How many clips a second the training loader gives, and what they cost: `python scripts/benchmarks/loader.py [MEDIA]`

Clips of AVShapes, and of the media in the folder MEDIA if one is given, are read from files (in decoding processes or
in the loader's own), from shards and from features, with 0, 1 and 2 loader processes, none of them kept in memory.
An epoch is `EPOCH` clips, each several times, so that processes read ahead through many batches.
Processor time counts all processes; one thread each. Cases take turns, the median of the rounds counts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from mmattn.checkpoint import Checkpoint, save_model
from mmattn.config.compose import compose
from mmattn.data.avshapes import make_avshapes
from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.splits import SplitData
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.shards.write import shard
from mmattn.errors import MediaError
from mmattn.inference.commands.features import make_features
from mmattn.media.survey.probe import probe
from mmattn.model import build_model

CLIPS, EPOCH, ROUNDS = 65, 192, 3
WORKERS = (0, 1, 2)


def spans(media: Path, folder: Path) -> Path:
    """A manifest of `CLIPS` spans of 3 s, evenly from all files of `media`."""
    rows: list[dict] = []
    for file in sorted(path for path in media.iterdir() if path.is_file()):
        try:
            length = probe(file).duration or 0.0
        except MediaError:
            continue
        rows += [
            {"path": str(file.absolute()), "start": 3.0 * k, "id": f"{file.name} {k}"} for k in range(int(length / 3))
        ]
    rows = rows[:: max(1, len(rows) // CLIPS)][:CLIPS]
    return listed([row | {"end": row["start"] + 3, "tags": ["x"]} for row in rows], folder)


def shapes(folder: Path) -> Path:
    make_avshapes(folder / "made", CLIPS, 0, workers=2)
    rows = [json.loads(line) for line in (folder / "made" / "manifest.jsonl").read_text().splitlines()]
    return listed([row | {"path": str(folder / "made" / row["path"])} for row in rows], folder / "listed")


def listed(rows: list[dict], folder: Path) -> Path:
    """All but one clip to train on, so that epochs are about as long as they can be."""
    folder.mkdir()
    lines = [json.dumps(row | {"split": "train" if k else "val"}) for k, row in enumerate(rows)]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return folder


def cases(root: Path, folder: Path) -> dict[str, list[str]]:
    """The data options of each way to store the clips of `root`; what it needs is made in `folder`."""
    config = compose("train", ["data=folder", f"data.root={root}"])
    model = folder / "model"
    model.mkdir(parents=True)
    vocabulary = TagVocabulary(("x",))
    data = build_data(config["data"])
    save_model(
        model / "model.safetensors", Checkpoint(build_model(config, vocabulary), config, vocabulary, data.clip, {})
    )
    where = [f"data.root={root}"]
    short = min(data.clip.height, data.clip.width)
    shard(compose("data_shard", [*where, f"out={folder / 'shards'}", f"short_side={short}"]))
    shard(compose("data_shard", [*where, f"out={folder / 'large'}"]))
    make_features(compose("data_features", [*where, f"run={model}", f"out={folder / 'features'}"]))
    return {
        "files, isolated": ["data=folder", *where],
        "files": ["data=folder", *where, "data.isolated=false"],
        f"shards, short side {short}": ["data=shards", f"data.root={folder / 'shards'}"],
        "shards, short side 256": ["data=shards", f"data.root={folder / 'large'}"],
        "features": ["data=features", f"data.root={folder / 'features'}"],
    }


def processor_time() -> float:
    """s, of this process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
            spent[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    todo, total = [os.getpid()], 0.0
    while todo:
        total += spent.get(todo[-1], 0.0)
        todo += parents.get(todo.pop(), [])
    return total


@dataclass
class Case:
    """A loader, already running: its processes are started and every file was read once."""

    data: SplitData
    workers: int

    def __post_init__(self) -> None:
        self.dataset = self.data.dataset("train", train=True)
        self.loader = self.data.loader(self.dataset, train=True)
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.run()

    def run(self) -> None:
        clips, started, before = 0, time.monotonic(), processor_time()
        for batch in self.loader:
            clips += int(batch.real.sum())
        self.wall.append(clips / (time.monotonic() - started))
        self.processor.append((processor_time() - before) / clips * 1e3)

    def close(self) -> None:
        del self.loader
        if isinstance(self.data, ClipData):
            self.data.reader.close()


def decode_share(options: list[str]) -> float:
    """Of the processor time for a clip, what reading it takes: all before it is padded, cut into spectra, stacked."""
    data = build_data(compose("train", [*options, "data.cache_gb=0", "data.isolated=false"])["data"])
    assert isinstance(data, ClipData)
    dataset, reading = data.dataset("train", train=True), 0.0
    read = data.reader.__call__

    class Timed:
        def __call__(self, media, request):
            nonlocal reading
            before = time.thread_time()
            clip = read(media, request)
            reading += time.thread_time() - before
            return clip

        def map(self, function: Callable, items):
            return map(function, items)

    dataset.reader = Timed()  # type: ignore[assignment]
    started = time.thread_time()
    for _ in data.loader(dataset, train=True):
        pass
    return reading / (time.thread_time() - started)


def measure(title: str, root: Path, folder: Path) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        options = cases(root, folder)
    running: dict[tuple[str, int], Case] = {}
    for name, chosen in options.items():
        for workers in WORKERS:
            extra = [] if name == "features" else ["data.cache_gb=0"]
            extra += [f"data.clips_per_epoch={EPOCH}", "data.batch_size=16", f"data.workers={workers}"]
            config = compose("train", [*chosen, *extra])
            running[name, workers] = Case(build_data(config["data"]), workers)
    for _ in range(ROUNDS):
        for case in running.values():
            case.run()
    print(f"\n{title}, {len(running['files', 0].dataset)} clips, {EPOCH} an epoch, {ROUNDS} rounds\n")
    print(f"| | {' | '.join(f'clips/s, workers={n}' for n in WORKERS)} | ms a clip | of it decoding |")
    print(f"|---|{'---|' * (len(WORKERS) + 2)}")
    for name, chosen in options.items():
        speeds = " | ".join(f"{median(running[name, n].wall[1:]):.0f}" for n in WORKERS)
        cost = median(running[name, 0].processor[1:])
        share = "" if name == "features" else f"{100 * decode_share(chosen):.0f} %"
        print(f"| {name} | {speeds} | {cost:.1f} | {share} |", flush=True)
    for case in running.values():
        case.close()


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measure("AVShapes", shapes(folder / "shapes"), folder / "of shapes")
        if len(sys.argv) > 1:
            measure(
                f"media of {Path(sys.argv[1]).name}", spans(Path(sys.argv[1]), folder / "media"), folder / "of media"
            )


if __name__ == "__main__":
    main()
