"""Run directories read into plain frozen records. Nothing here needs torch.

Whatever is undefined or missing is None, never NaN: a page can then say "undefined" instead of a number that is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmattn.errors import UsageError
from mmattn.reports.collect.choices import choice_of
from mmattn.reports.collect.provenance import read_made_with, read_model_header

CONFIG_FILE = "config.yaml"
EVALUATION_FILE = "evaluation.json"
TEST_FILE = "evaluation-test.json"
METRICS_FILE = "metrics.jsonl"
RUN_FILE = "run.json"
MODEL_FILE = "model.safetensors"

Number = float | None


@dataclass(frozen=True)
class Split:
    """A score on each modality subset (none, video, audio, both) and its exact Shapley split."""

    value: dict[str, Number]
    video: Number
    audio: Number
    synergy: Number
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)  # of each part, 95 %

    @property
    def gain(self) -> Number:
        """What both modalities together add to neither: video + audio."""
        both, none = self.value.get("both"), self.value.get("none")
        return None if both is None or none is None else both - none

    def above(self, part: str, edge: float = 0.0) -> bool:
        """Whether the whole interval of a part is above `edge`."""
        return part in self.interval and self.interval[part][0] > edge

    def below(self, part: str, edge: float = 0.0) -> bool:
        return part in self.interval and self.interval[part][1] < edge


@dataclass(frozen=True)
class Head:
    """The mean attention mass of one head on sound, beside what uniform attention would give."""

    layer: str
    stream: str
    head: int
    mass: float
    prior: float
    log_ratio: Number


@dataclass(frozen=True)
class Scores:
    """One evaluation of one run."""

    split: str
    epoch: int | None
    clips: int
    mean: Number
    chance: Number
    mean_accuracy: Number
    by_family: dict[str, Number]
    by_tag: dict[str, Number]
    accuracy: dict[str, Number]
    shapley: Split
    shapley_by_family: dict[str, Split]
    shapley_by_tag: dict[str, Split]
    heads: tuple[Head, ...]
    permutation: dict[str, Number] = field(default_factory=dict)  # modality -> share of the score that exchanging costs
    captions: dict[str, Number] = field(default_factory=dict)  # metric of the captions -> value
    gradient_share: dict[str, Number] = field(default_factory=dict)  # modality -> its encoder's share in training


@dataclass(frozen=True)
class RunRecord:
    """All that a report says about one run directory."""

    path: Path
    name: str  # unique among the runs of one report
    fusion: str  # "cross", "late", ...
    attention: str | None  # "dense", "time_window", ...; None for a fusion that has none
    seed: str | None
    config: dict[str, str]  # flat: dotted key -> value as text
    made_with: dict[str, str]  # versions
    scores: Scores
    curves: dict[str, tuple[tuple[float, float], ...]]  # metric -> (epoch, value)
    families: dict[str, str] = field(default_factory=dict)  # tag -> family, where known
    weights: int | None = None  # how many numbers the model file holds


def collect_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Read each run; the test split is shown when every run has it. Raises UsageError saying what is wrong where."""
    if not paths:
        raise UsageError("runs=[]: nothing to compare; name at least one run directory, as in runs=[runs/a,runs/b]")
    for path in paths:
        _check(path)
    file = TEST_FILE if all((path / TEST_FILE).is_file() for path in paths) else EVALUATION_FILE
    return [_run(path, name, file) for path, name in zip(paths, _names(paths), strict=True)]


def _check(path: Path) -> None:
    if not path.is_dir():
        raise UsageError(f"{path}: no such run directory; runs= takes what mmattn train printed")
    if not (path / CONFIG_FILE).is_file():
        raise UsageError(f"{path}: not a run directory (no {CONFIG_FILE}); runs= takes what mmattn train printed")
    if not (path / EVALUATION_FILE).is_file():
        raise UsageError(
            f"{path}: no validation has finished (no {EVALUATION_FILE}); go on with mmattn train resume={path}"
        )


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest path endings that tell the runs apart; a run given twice is numbered."""
    parts = [path.resolve().parts for path in paths]
    names = ["/".join(part[-1:]) for part in parts]
    for length in range(2, max(map(len, parts)) + 1):
        if len(set(names)) == len(names):
            break
        names = ["/".join(part[-length:]) for part in parts]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _run(path: Path, name: str, file: str) -> RunRecord:
    config = read_yaml(path / CONFIG_FILE)
    families, weights = read_model_header(path / MODEL_FILE)
    fusion = config.get("fusion")
    return RunRecord(
        path=path,
        name=name,
        fusion=choice_of("fusion", fusion) or "unknown fusion",
        attention=choice_of("attention", fusion.get("attention")) if isinstance(fusion, dict) else None,
        seed=None if config.get("seed") is None else str(config["seed"]),
        config={key: "null" if value is None else str(value) for key, value in _leaves(config)},
        made_with=read_made_with(path / RUN_FILE),
        scores=_scores(path / file),
        curves=_curves(path / METRICS_FILE),
        families=families,
        weights=weights,
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises UsageError."""
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}); restore it or leave the run out") from None
    if not isinstance(node, dict):
        raise UsageError(f"{path}: holds no settings; restore it or leave the run out")
    return node


def _scores(path: Path) -> Scores:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        metrics = record["metrics"]
        return Scores(
            split=str(record.get("split", "val")),
            epoch=record.get("epoch"),
            clips=int(record["clips"]),
            mean=number(metrics["mAP"]),
            chance=number(metrics.get("chance_mAP")),
            mean_accuracy=number(metrics.get("mean_accuracy")),
            by_family=_numbers(metrics.get("mAP_by_family")),
            by_tag=_numbers(metrics.get("ap")),
            accuracy=_numbers(metrics.get("accuracy")),
            shapley=_split(record["shapley"]),
            shapley_by_family={str(k): _split(v) for k, v in (record.get("shapley_by_family") or {}).items()},
            shapley_by_tag={str(k): _split(v) for k, v in (record.get("shapley_by_tag") or {}).items()},
            heads=tuple(_heads(record.get("attention") or [])),
            captions=_numbers((record.get("captions") or {}).get("metrics")),
            permutation={m: number(v.get("score")) for m, v in (record.get("permutation") or {}).items()},
            gradient_share=_numbers({m: (record.get("gradient_share") or {}).get(m) for m in ("video", "audio")}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        run = path.parent
        raise UsageError(
            f"{path}: not a whole evaluation ({type(error).__name__}: {error}); write it again with "
            f"mmattn evaluate run={run} out={path}"
        ) from None


def number(value: Any) -> Number:
    """A finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _numbers(node: Any) -> dict[str, Number]:
    return {str(key): number(value) for key, value in (node or {}).items()}


def _split(node: Mapping[str, Any]) -> Split:
    parts = {name: number(node.get(name)) for name in ("video", "audio", "synergy")}
    edges = {part: (number(low), number(high)) for part, (low, high) in (node.get("interval") or {}).items()}
    interval = {part: (low, high) for part, (low, high) in edges.items() if low is not None and high is not None}
    return Split(_numbers(node.get("value")), parts["video"], parts["audio"], parts["synergy"], interval)


def _heads(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Head]:
    for node in nodes:
        mass, prior = number(node["mass"].get("audio")), number(node["prior"].get("audio"))
        if mass is not None and prior is not None:
            ratio = number((node.get("log_ratio") or {}).get("audio"))
            yield Head(str(node["layer"]), str(node["stream"]), int(node["head"]), mass, prior, ratio)


def _curves(path: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    """Every metric over epochs. A line cut off by a crash is left out; so are attention numbers, which are many."""
    curves: dict[str, dict[float, float]] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            record = json.loads(line)
            epoch = float(record["epoch"]) + 1
        except (ValueError, KeyError, TypeError):
            continue
        for name, value in record.items():
            finite = number(value)
            if "/" in name and "attention" not in name and finite is not None:
                curves.setdefault(name, {})[epoch] = finite  # a resumed epoch replaces its first, unfinished try
    return {name: tuple(sorted(points.items())) for name, points in curves.items()}


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
