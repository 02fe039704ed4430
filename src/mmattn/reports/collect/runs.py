"""Run directories read into the records of a report. Nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import MODEL_FILE
from mmattn.reports.collect.added import flat, with_added
from mmattn.reports.collect.choices import choice_of
from mmattn.reports.collect.metrics import read_curves
from mmattn.reports.collect.provenance import read_made_with, read_model_header
from mmattn.reports.collect.records import Head, Number, RunRecord, Scores, Split, number

CONFIG_FILE = "config.yaml"
EVALUATION_FILE = "evaluation.json"
TEST_FILE = "evaluation-test.json"
RUN_FILE = "run.json"


def collect_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Read each run; the test split is shown when every run has it. Raises UsageError for what cannot be read."""
    if not paths:
        raise UsageError("runs=[]: nothing to compare; name at least one run directory, as in runs=[runs/a,runs/b]")
    for path in paths:
        check_run(path)
    file = TEST_FILE if all((path / TEST_FILE).is_file() for path in paths) else EVALUATION_FILE
    return with_added([_run(path, name, file) for path, name in zip(paths, _names(paths), strict=True)])


def check_run(path: Path) -> None:
    """Raises UsageError for a path that is not a run with a validation."""
    if not path.is_dir():
        raise UsageError(f"{path}: no such run directory; give runs= the directory that mmattn train printed")
    if not (path / CONFIG_FILE).is_file():
        raise UsageError(
            f"{path}: not a run directory (no {CONFIG_FILE}); give runs= the directory that mmattn train printed"
        )
    if not (path / EVALUATION_FILE).is_file():
        raise UsageError(
            f"{path}: no validation has finished (no {EVALUATION_FILE}); continue with mmattn train resume={path}"
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


def _run(path: Path, name: str, file: str) -> tuple[RunRecord, Config]:
    config = read_yaml(path / CONFIG_FILE)
    families, thresholds, weights = read_model_header(path / MODEL_FILE)
    fusion = config.get("fusion")
    record = RunRecord(
        path=path,
        name=name,
        fusion=choice_of("fusion", fusion) or "unknown fusion",
        attention=choice_of("attention", fusion.get("attention")) if isinstance(fusion, dict) else None,
        seed=None if config.get("seed") is None else str(config["seed"]),
        config=flat(config),
        made_with=read_made_with(path / RUN_FILE),
        scores=_scores(path / file),
        curves=read_curves(path),
        families=families,
        thresholds=thresholds,
        weights=weights,
    )
    return record, config


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises UsageError."""
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}); restore it or leave the run out") from None
    if not isinstance(node, dict):
        raise UsageError(f"{path}: contains no settings; restore it or leave the run out")
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
            f"{path}: incomplete evaluation ({type(error).__name__}: {error}); write it again with "
            f"mmattn evaluate run={run} out={path}"
        ) from None


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
