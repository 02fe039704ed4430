"""Run directories made by hand, and what an HTML parser sees in a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
import yaml

from mmattn.config.compose import read_choice
from mmattn.weighting.causal import SUBSETS, shapley
from mmattn.weighting.clip_scores import ClipScores

FAMILIES = {
    "picture": (0.4, 0.9, 0.4, 0.9),  # scores with neither, picture, sound, both
    "sound": (0.3, 0.3, 0.95, 0.95),
    "redundant": (0.3, 0.97, 0.98, 0.99),
    "synergy": (0.45, 0.46, 0.44, 0.81),
}


def split(*values: float | None) -> dict[str, Any]:
    """The record of a Shapley split, computed by the package from four scores (None: undefined)."""
    value = dict(zip(SUBSETS, values, strict=True))
    if None in values:
        return {"value": value, "video": None, "audio": None, "synergy": None}
    parts = shapley(value)
    return {"value": value, "video": parts.video, "audio": parts.audio, "synergy": parts.synergy}


def evaluation(families: dict[str, tuple] = FAMILIES, heads: bool = True, clips: int = 400) -> dict[str, Any]:
    """An evaluation.json with one tag `<family>/x` a family."""
    both = [values[3] for values in families.values() if values[3] is not None]
    columns = zip(*families.values(), strict=True)
    mean = [None if None in column else sum(column) / len(column) for column in columns]
    head = {"layer": "cross.0", "stream": "video", "head": 0}
    sides = {
        "mass": {"audio": 0.62, "video": 0.38},
        "prior": {"audio": 0.44, "video": 0.56},
        "log_ratio": {"audio": 0.343, "video": -0.388},
    }
    return {
        "split": "val",
        "epoch": 4,
        "step": 50,
        "clips": clips,
        "metrics": {
            "mAP": sum(both) / len(both),
            "mAP_by_family": {family: values[3] for family, values in families.items()},
            "ap": {f"{family}/x": values[3] for family, values in families.items()},
            "accuracy": {"pitch": 0.875},
            "mean_accuracy": 0.875,
            "chance_mAP": 0.3625,
        },
        "shapley": split(*mean),
        "shapley_by_family": {family: split(*values) for family, values in families.items()},
        "shapley_by_tag": {f"{family}/x": split(*values) for family, values in families.items()},
        "attention": [head | sides] if heads else [],
        "permutation": {"video": {"value": 0.5, "score": 0.4375}, "audio": {"value": 0.6, "score": 0.3125}},
        "gradient_share": {"video": 0.6875, "audio": 0.3125, "norm": {"video": 1.1, "audio": 0.5}, "steps": 13},
    }


def make_run(path: Path, fusion: str = "cross", record: dict[str, Any] | None = None, lr: float = 0.002) -> Path:
    """A run directory without a model."""
    path.mkdir(parents=True)
    target = f"mmattn.fusion.{fusion}.{fusion.capitalize()}Fusion"
    config = {"fusion": {"_target_": target, "dim": 128}, "optim": {"lr": lr}, "run": str(path)}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "run.json").write_text(
        json.dumps({"mmattn": "0.1.0", "git": "0123456789abcdef", "packages": {"torch": "2.9"}})
    )
    (path / "evaluation.json").write_text(json.dumps(record or evaluation(heads=fusion != "late")))
    lines = [
        json.dumps({"step": 10 * e, "time": 1.0, "train/loss": 0.7 / (e + 1), "val/mAP": 0.5 + 0.1 * e, "epoch": e})
        for e in range(3)
    ]
    (path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 40, "tra']))  # a crash cuts the last line
    return path


def make_grid(path: Path, names: dict[str, str], attentions: list[str], seeds: int, root: Path) -> list[Path]:
    """Runs of every fusion (shown name -> class) x attention x seed on a data set of three clips at `root`, with what
    each clip scored. Hostile names are welcome."""
    runs = []
    for i, (name, fusion) in enumerate(names.items()):
        for j, attention in enumerate(attentions):
            for seed in range(seeds):
                skill = 1.0 + i + 0.5 * j + 0.1 * seed
                run = make_run(path / f"{name}-{attention}-{seed}", fusion)
                config = yaml.safe_load((run / "config.yaml").read_text())
                config["fusion"]["attention"] = read_choice("attention", attention)
                clip = {"_target_": "mmattn.data.prepare.clips.ClipSpec", "seconds": 1.0}
                config |= {"seed": seed, "data": {"root": str(root), "seed": seed, "clip": clip}}
                (run / "config.yaml").write_text(yaml.safe_dump(config))
                _write_clips(run, skill, 100 * i + 10 * j + seed)
                for snr in (-5, 0, 5):
                    noisy = evaluation() | {"noise": {"kind": "babble", "snr_db": snr}}
                    (run / f"evaluation-val-babble{snr:+g}dB.json").write_text(json.dumps(noisy))
                runs.append(run)
    return runs


def _write_clips(run: Path, skill: float, seed: int) -> None:
    ids, tags = ("one", "two <b>", "three"), ("picture/x", "sound/x")
    generator = torch.Generator().manual_seed(seed)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    both = torch.sigmoid(skill * (2 * targets - 1) + torch.randn(3, 2, generator=generator))
    ClipScores(ids, tags, {}, {}, targets, dict.fromkeys(SUBSETS, both)).save(run / "evaluation-val-scores.safetensors")
    lines = []
    for name, own, truth in zip(ids, both, targets, strict=True):
        value = {**dict.fromkeys(SUBSETS, 0.2), "both": float((own * truth).sum() / truth.sum())}
        said = {"caption": "a <i>dog</i> barks", "references": ["</script><b>a dog"], "metrics": {"rouge_l": 0.5}}
        said["words"] = [{"word": "<i>dog", "video": 0.1, "audio": 0.9}, {"word": "barks", "video": 0.0, "audio": 2.0}]
        had = [tag for tag, has in zip(tags, truth.tolist(), strict=True) if has]
        lines.append({"id": name, "tags": had, "value": value, "video": 0.2, "audio": 0.1, "synergy": 0.0,
                      "captioning": said})  # fmt: skip
    (run / "evaluation-val-clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def tagged(path: str, tags: dict[str, float], **more: Any) -> dict[str, Any]:
    """One line of predictions.jsonl."""
    parts = {"video": 0.3, "audio": -0.1, "synergy": 0.0}
    modality = {"used": ["video", "audio"], "shapley": None, "attention": {"audio": 0.5, "prior": 0.4}}
    record = {"path": path, "status": "ok", "modality": modality, "spans": [[0.0, 1.0]], "issues": []}
    return record | {"tags": [{"tag": tag, "score": score, **parts} for tag, score in tags.items()]} | more


def captions_of(*texts: str) -> list[dict[str, Any]]:
    """The captions of a record, of two seconds each."""
    return [{"start": 2.0 * i, "end": 2.0 * i + 2, "text": text, "score": -1.0, "words": []}
            for i, text in enumerate(texts)]  # fmt: skip


def write_predictions(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


class Seen(HTMLParser):
    """Tags and attributes of a page, and its text without that of style sheet and charts."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.scripts = 0
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(page.read_bytes().decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        self._inside += [tag] if tag in ("svg", "style", "script") else []
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        self.words += [] if self._inside else data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)
