"""The numbers of an evaluation as curves and tables, for any logger."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mmattn.types import MODALITIES
from mmattn.weighting.causal import SUBSETS

PARTS = ("video", "audio", "synergy")
MOST_TAGS = 50  # with a curve each; of more tags, only the tables and evaluation.json have them
_UNFIT = re.compile(r"[^\w\-. /:]|(?<![^/])[./]+|/+$")  # characters that MLflow does not allow in the name of a metric
Table = tuple[list[str | int], list[Any]]  # names of the columns, rows


def by_tag(evaluation: dict[str, Any], families: dict[str, str]) -> Table:
    """A row for each tag: score, score on each subset, Shapley split with intervals, permutation scores."""
    permutation, metrics = evaluation.get("permutation"), evaluation["metrics"]
    columns: list[str | int] = ["tag", "family", "ap", "auroc", "d_prime", "f1", *(f"ap_{s}" for s in SUBSETS)]
    columns += [*_split_columns(), *(f"permutation_{m}" for m in MODALITIES)]
    rows = []
    for tag, split in evaluation["shapley_by_tag"].items():
        lost = [permutation[m]["by_tag"][tag] if permutation else None for m in MODALITIES]
        scored = [metrics[name][tag] for name in ("ap", "auroc_by_tag", "d_prime_by_tag")]
        own = [tag, families.get(tag), *scored, metrics["f1"]["by_tag"][tag], *(split["value"][s] for s in SUBSETS)]
        rows.append([*own, *_split_cells(split), *lost])
    return columns, rows


def by_family(evaluation: dict[str, Any]) -> Table:
    """A row for each family, and one for all tags."""
    rows = [
        [family, evaluation["metrics"]["mAP_by_family"][family], *_split_cells(split)]
        for family, split in evaluation["shapley_by_family"].items()
    ]
    whole = ["all", evaluation["metrics"]["mAP"], *_split_cells(evaluation["shapley"])]
    return ["family", "mAP", *_split_columns()], [whole, *rows]


def _split_columns() -> list[str]:
    return [column for part in PARTS for column in (part, f"{part}_low", f"{part}_high")]


def _split_cells(split: dict[str, Any]) -> list[float | None]:
    nothing = dict.fromkeys(PARTS, (None, None))
    return [cell for part in PARTS for cell in (split[part], *split.get("interval", nothing)[part])]


def by_head(evaluation: dict[str, Any]) -> Table:
    """A row for each layer, stream, head and part that the head attends to."""
    facts = ("entropy", "lag_s", "distance_s")
    rows = [
        [*(head[k] for k in ("layer", "stream", "head", "kind")), part, head["mass"][part], head["prior"][part],
         head["log_ratio"][part], *(head.get(fact) for fact in facts)]
        for head in evaluation["attention"]
        for part in head["mass"]
    ]  # fmt: skip
    return ["layer", "stream", "head", "kind", "part", "mass", "prior", "log_ratio", *facts], rows


def headline(evaluation: dict[str, Any]) -> dict[str, float]:
    """The main scores: mAP where there are tags, CIDEr-D where there are captions, or both."""
    mean, captions = evaluation["metrics"]["mAP"], evaluation.get("captions")
    found = {} if mean is None else {"mAP": mean}
    return found | ({"CIDEr-D": captions["metrics"]["cider_d"]} if captions else {})


def score(evaluation: dict[str, Any]) -> float | None:
    """One number to compare two models: the mean of mAP and CIDEr-D / 10, of those that there are."""
    found = headline(evaluation)
    values = [value / 10 if name == "CIDEr-D" else value for name, value in found.items()]
    return sum(values) / len(values) if values else None


def curves(evaluation: dict[str, Any]) -> dict[str, float]:
    """The numbers to plot over training: scores, splits, permutation scores, attention by head."""
    return {name: float(value) for name, value in _numbers(evaluation) if value is not None}


def _numbers(evaluation: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    yield from _tag_numbers(evaluation["metrics"])
    yield from _split_numbers(evaluation)
    yield from _caption_numbers(evaluation.get("captions"))
    yield from _modality_numbers(evaluation)
    yield from _attention_numbers(evaluation["attention"])


def _tag_numbers(metrics: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    yield from (("val/mAP", metrics["mAP"]), ("val/mean_accuracy", metrics["mean_accuracy"]))
    for family, value in metrics["mAP_by_family"].items():
        yield f"val/mAP/{family}", value
    for group, value in metrics["accuracy"].items():
        yield f"val/accuracy/{group}", value
    for group, value in metrics["top5_accuracy"].items():
        yield f"val/top5_accuracy/{group}", value
    for name in ("auroc", "d_prime", "calibration_error"):
        yield f"val/{name}", metrics[name]
    for mean in ("macro", "micro"):
        yield f"val/f1/{mean}", metrics["f1"][mean]
        yield f"val/f1_at_half/{mean}", metrics["f1_at_half"][mean]


def _split_numbers(evaluation: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    shapley = evaluation["shapley"]
    for part in PARTS:
        yield f"val/shapley/{part}", shapley[part]
        for edge, value in zip(("low", "high"), shapley.get("interval", {}).get(part, ()), strict=False):
            yield f"val/shapley_{edge}/{part}", value
        for name, split in _named_splits(evaluation):
            yield f"val/shapley/{part}/{name}", split[part]


def _modality_numbers(evaluation: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    for modality in MODALITIES:
        yield f"val/confusion/{modality}", evaluation["confusion"][modality]["all"]
        if "permutation" in evaluation:
            yield f"val/permutation/{modality}", evaluation["permutation"][modality]["score"]
        if evaluation.get("gradient_share"):
            yield f"val/gradient_share/{modality}", evaluation["gradient_share"][modality]


def _attention_numbers(heads: list[dict[str, Any]]) -> Iterator[tuple[str, float | None]]:
    for head in heads:
        place = f"{head['layer']}/{head['stream']}/head{head['head']}"
        part = "audio" if "audio" in head["mass"] else "bottleneck"
        for measure in ("mass", "prior", "log_ratio"):
            yield f"val/{head['kind']}_{measure}/{place}/{part}", head[measure].get(part)
        for fact in ("entropy", "lag_s", "distance_s"):
            yield f"val/{head['kind']}_{fact}/{place}", head.get(fact)


def _named_splits(evaluation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The splits of tags, if not too many, and of families; a family takes precedence over a tag of the same name."""
    tags, families = evaluation["shapley_by_tag"], evaluation["shapley_by_family"]
    both = {**(tags if len(tags) <= MOST_TAGS else {}), **families}
    for name, split in both.items():
        yield _UNFIT.sub("_", name), split


def _caption_numbers(captions: dict[str, Any] | None) -> Iterator[tuple[str, float | None]]:
    if captions is None:
        return
    for metric, value in captions["metrics"].items():
        yield f"val/captions/{metric}", value
    for metric, split in captions["shapley"].items():
        for part in PARTS:
            yield f"val/captions/shapley/{metric}/{part}", split[part]
    for part in (*PARTS, "attention"):
        yield f"val/captions/words/{part}", captions["words"].get(part)
