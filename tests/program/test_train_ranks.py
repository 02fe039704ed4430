"""Two processes train as one does: the same losses, and as many forwards on both however few clips there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmattn.cli.main import main

OPTIONS = ["logger=none", "trainer.log_every=1", "trainer.epochs=2", "fusion=cross", "data.batch_size=8"]
CAPTIONS = ["captions=transformer", "captions.decoding.max_length=4", "captions.dropout=0.0"]
KINDS = {
    "copies": [*CAPTIONS, "trainer.strategy=ddp"],
    "shares": [*CAPTIONS, "trainer.strategy=fsdp", "logger=wandb"],
    "accumulated": ["trainer.strategy=ddp", "trainer.accumulate=2", "data.batch_size=4"],
    "contrastive": ["pretrain=contrastive"],
    "masked": ["pretrain=mae"],
    "synchrony": ["pretrain=sync"],
}
DRAWN = ("masked", "synchrony")  # what is hidden or turned is drawn by each process
pytestmark = pytest.mark.usefixtures("warm")
CLOSE = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(scope="module")
def one_clip(shapes: Path, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A set with a single clip to validate on, and a training clip without captions or tags of a group."""
    root = tmp_path_factory.mktemp("one")
    (root / "clips").symlink_to(shapes / "clips")
    rows = [json.loads(line) for line in (shapes / "manifest.jsonl").read_text().splitlines()]
    train, val = ([row for row in rows if row["split"] == split] for split in ("train", "val"))
    train[0]["captions"], train[0]["tags"] = [], [tag for tag in train[0]["tags"] if not tag.startswith("pitch/")]
    train[1]["captions"] = [train[1]["captions"][0].split(";")[0]]
    lines = [json.dumps(row) for row in (*train, val[0])]
    (root / "manifest.jsonl").write_text("\n".join(lines))
    other = [option for option in small if not option.startswith(("data=", "data.root=", "data.clips", "data.source"))]
    return ["data=folder", f"data.root={root}", "data.clip.height=48", "data.clip.width=48", *other]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_log_what_one_does_with_one_clip_to_validate_on(
    kind: str, one_clip: list[str], tmp_path: Path
) -> None:
    runs = [tmp_path / f"ranks{ranks}" for ranks in (1, 2)]
    for ranks, run in enumerate(runs, start=1):
        assert main(["train", *one_clip, *OPTIONS, *KINDS[kind], f"trainer.devices={ranks}", f"run={run}"]) == 0
        assert (run / "model.safetensors").is_file() and (run / "finished.json").is_file()
    alone, both = map(metrics, runs)
    assert len(alone) == len(both)
    compared = 0
    for one, other in zip(alone, both, strict=True):
        assert one.keys() == other.keys() and one["step"] == other["step"]
        for name in (name for name in one if "loss" in name and kind not in DRAWN):
            assert other[name] == pytest.approx(one[name], **CLOSE), (one["step"], name)
            compared += 1
    assert compared >= 6 or kind in DRAWN
