"""The record of an evaluation: metrics of the tags and their splits between the modalities, as plain data.

Shape legend: N clips, K tags, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mmattn.metrics.bootstrap import interval, resampled_average_precision
from mmattn.metrics.summary import summary
from mmattn.metrics.tags import answers, average_precision, by_family, mean_defined
from mmattn.types import MODALITIES, Modality
from mmattn.weighting.causal import SUBSETS, Subset, shapley
from mmattn.weighting.clip_scores import ClipScores


def tag_record(clips: ClipScores, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Metrics and splits of all clips. `thresholds`: of free tags, 0.5 for those without one."""
    names, families = clips.tags, clips.families
    per_tag: dict[Subset, dict[str, float]] = {s: _by_tag(names, clips.scores[s], clips.targets) for s in SUBSETS}
    per_family: dict[Subset, dict[str, float]] = {s: by_family(per_tag[s], families) for s in SUBSETS}
    mean: dict[Subset, float] = {s: mean_defined(list(per_tag[s].values())) for s in SUBSETS}
    own: dict[Subset, float] = {s: float(v.nanmean()) for s, v in _own_scores(clips).items()}
    record = {
        "clips": len(clips.ids),
        "metrics": {
            "mAP": mean["both"],
            "mAP_by_family": per_family["both"],
            "ap": per_tag["both"],
            "chance_mAP": mean_defined([float(p) for p in clips.targets.mean(dim=0) if p > 0]),
            **summary(clips.scores["both"], clips.targets, names, clips.groups, thresholds),
        },
        "shapley": _split(mean),
        "shapley_by_family": {f: _split({s: per_family[s][f] for s in SUBSETS}) for f in per_family["both"]},
        "shapley_by_tag": {tag: _split({s: per_tag[s][tag] for s in SUBSETS}) for tag in names},
        "shapley_by_clip": _split(own),
        "confusion": _confusion(clips, thresholds),
    }
    return record | ({"permutation": _permutation(clips, per_tag["both"])} if clips.permuted else {})


def clip_records(
    clips: ClipScores, captions: Mapping[str, dict[str, Any]], thresholds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A record for each clip.

    It has the mean score of the clip's own tags from each subset of modalities, the Shapley split of that, the
    questions that one modality alone gets right and both together get wrong, and the caption.
    """
    own, misled = _own_scores(clips), _misled(clips, thresholds)
    records = []
    for i, name in enumerate(clips.ids):
        tags = [tag for tag, value in zip(clips.tags, clips.targets[i].tolist(), strict=True) if value > 0]
        wrong = {m: [question for question, found in misled[m].items() if found[i]] for m in MODALITIES}
        split = _split({s: float(own[s][i]) for s in SUBSETS})
        caption = {"captioning": captions[name]} if name in captions else {}
        records.append({"id": name, "tags": tags, **split, "confusion": wrong, **caption})
    return records


def add_intervals(record: dict[str, Any], clips: ClipScores, counts: UInt8[Tensor, "R N"]) -> None:
    """Add 95 % intervals to every split: every subset uses the same resamples of clips, so differences are paired."""
    ap: dict[Subset, Tensor] = {s: resampled_average_precision(clips.scores[s], clips.targets, counts) for s in SUBSETS}
    parts: dict[str, Float[Tensor, "R K"]] = vars(shapley(ap))

    def mean_over(tags: list[int]) -> dict[str, list[float]]:
        return {part: interval(values[:, tags].nanmean(dim=1)) for part, values in parts.items()}

    record["shapley"]["interval"] = mean_over(list(range(len(clips.tags))))
    for family, split in record["shapley_by_family"].items():
        split["interval"] = mean_over([i for i, tag in enumerate(clips.tags) if clips.families.get(tag) == family])
    for i, tag in enumerate(clips.tags):
        record["shapley_by_tag"][tag]["interval"] = mean_over([i])
    own = vars(shapley(_own_scores(clips)))
    tagged = ~own["video"].isnan()
    drawn = counts[:, tagged].double()
    record["shapley_by_clip"]["interval"] = {
        part: interval(drawn @ values[tagged] / drawn.sum(dim=1)) for part, values in own.items()
    }
    record["resampled"] = len(counts)


def without_nan(node: Any) -> Any:
    """JSON has neither NaN nor infinity; None (null) means undefined."""
    if isinstance(node, dict):
        return {key: without_nan(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_nan(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _misled(clips: ClipScores, thresholds: Mapping[str, float]) -> dict[Modality, dict[str, Bool[Tensor, " N"]]]:
    """By question, the clips that one modality alone gets right and both together get wrong."""
    right = {s: answers(clips.scores[s], clips.targets, clips.tags, clips.groups, thresholds) for s in SUBSETS}
    return {
        modality: {
            name: asked & right[modality][name][1] & ~correct for name, (asked, correct) in right["both"].items()
        }
        for modality in MODALITIES
    }


def _confusion(clips: ClipScores, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """How often one modality alone is right and both together are wrong: over all answers, and by question."""
    questions = answers(clips.scores["both"], clips.targets, clips.tags, clips.groups, thresholds)
    asked = {name: int(question.sum()) for name, (question, _) in questions.items()}
    record: dict[str, Any] = {}
    for modality, found in _misled(clips, thresholds).items():
        misled = {name: int(rows.sum()) for name, rows in found.items()}
        by_question = {name: misled[name] / asked[name] if asked[name] else math.nan for name in asked}
        total = sum(asked.values())
        record[modality] = {"all": sum(misled.values()) / total if total else math.nan, "by_question": by_question}
    return record


def _permutation(clips: ClipScores, both: dict[str, float]) -> dict[str, Any]:
    """[V - V(permuted m)] / V for V the mean average precision, and for that of each tag."""
    record: dict[str, Any] = {}
    for modality in MODALITIES:
        by_tag = _by_tag(clips.tags, clips.permuted[modality], clips.targets)
        whole, value = mean_defined(list(both.values())), mean_defined(list(by_tag.values()))
        lost = {tag: _lost(both[tag], by_tag[tag]) for tag in both}
        record[modality] = {"value": value, "score": _lost(whole, value), "by_tag": lost}
    return record


def _by_tag(names: tuple[str, ...], scores: Tensor, targets: Tensor) -> dict[str, float]:
    return dict(zip(names, average_precision(scores, targets).tolist(), strict=True))


def _lost(both: float, permuted: float) -> float:
    return (both - permuted) / both if both else math.nan


def _own_scores(clips: ClipScores) -> dict[Subset, Float[Tensor, " N"]]:
    """The mean score of each clip's own tags; NaN for a clip without tags."""
    truth = (clips.targets > 0).double()
    return {subset: (clips.scores[subset].double() * truth).sum(dim=1) / truth.sum(dim=1) for subset in SUBSETS}


def _split(value: Mapping[Subset, float]) -> dict[str, Any]:
    split = shapley(value)
    return {"value": dict(value), "video": split.video, "audio": split.audio, "synergy": split.synergy}
