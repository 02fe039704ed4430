"""`mmattn evaluate`: a trained run's scores and modality weightings on one of its data set's splits."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmattn.checkpoint import load_model
from mmattn.config.compose import Config
from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.splits import SplitData
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.views import ClipView, Views, clip_views
from mmattn.errors import UsageError
from mmattn.files import check_output, followed, write_atomically
from mmattn.progress import Progress
from mmattn.text import counted
from mmattn.training.directory.frozen import read_config
from mmattn.training.logging.curves import headline
from mmattn.training.run.evaluate_checks import check_evaluation
from mmattn.weighting.evaluation import Evaluation

PLAIN_VIEWS = {"spans": 1, "crops": 1, "flip": False}
RESAMPLED = 1000  # bootstrap resamples for the intervals


def evaluate(config: Config, changes: Sequence[str] = ()) -> str:
    """Write the evaluation as JSON; returns one line with the main scores.

    `changes`: overrides that replace the model's attention; the file is named after them.
    """
    check_evaluation(config)
    split = config["split"]
    run, noise, attention = Path(str(config["run"])), config["noise"], config.get("attention")
    data = build_data(read_config(run)["data"])
    name, augment, described = f"evaluation-{split}", None, {}
    if noise["kind"] is not None:
        data, augment, described = replace(data, seed=noise["seed"]), _noise(noise), {"noise": noise}
        name += f"-{noise['kind']}{noise['snr_db']:+g}dB"
    if config["views"] != PLAIN_VIEWS:
        described |= {"views": config["views"]}
        name += "-views" + "x".join(str(value) for value in (config["views"]["spans"], config["views"]["crops"]))
        name += "-flip" if config["views"]["flip"] else ""
    name = "-".join([name, *map(_short, changes)])
    out = followed(Path(str(config["out"])) if config["out"] else run / f"{name}.json")
    check_output(out, f"out={out}")
    record = described | evaluate_run(
        run,
        split,
        data,
        augment,
        attention,
        out.with_name(f"{out.stem}-clips.jsonl"),
        config["decoding"],
        _looks(config["views"], data),
    )
    write_atomically(out, json.dumps(record, indent=1).encode())
    return f"{run} on {counted(record['clips'], f'{split} clip')}: {_scores(record)} -> {out}"


def _scores(record: dict[str, Any]) -> str:
    metrics, captions = record["metrics"], record.get("captions")
    parts = [f"{name} {value:.3f}" for name, value in headline(record).items()]
    parts += [f"{family} {value:.3f}" for family, value in metrics["mAP_by_family"].items() if value]
    if metrics["mean_accuracy"] is not None:
        parts.append(f"mean group accuracy {metrics['mean_accuracy']:.3f}")
    if captions:
        parts += [f"{name.replace('_', ' ')} {captions['metrics'][name]:.3f}" for name in ("word_accuracy", "exact")]
    return ", ".join(parts) or "nothing to measure (no clip has tags or captions)"


def _short(change: str) -> str:
    """attention=time_window as time_window, attention.pattern.past_s=0.1 as past_s=0.1, for file names."""
    key, _, value = change.partition("=")
    return (value if key == "attention" else f"{key.rpartition('.')[2]}={value}").replace("/", "_")


def _looks(views: Config, data: SplitData) -> list[ClipView | None]:
    """The views of each clip; [None]: the view of training."""
    chosen = clip_views(views["spans"], Views(views["crops"], views["flip"]), data.clip)
    if len(chosen) == 1:
        return [None]
    if not isinstance(data, ClipData):
        raise UsageError("views are cut from media, and this run's data are features; set views.spans=1 views.crops=1")
    return list(chosen)


def _dataset(
    data: SplitData, split: str, vocabulary: TagVocabulary, augment: Augment | None, look: ClipView | None
) -> Any:
    if look is None:
        return data.dataset(split, vocabulary=vocabulary, augment=augment)
    assert isinstance(data, ClipData)
    return data.dataset(split, vocabulary=vocabulary, augment=augment, view=look)


def _video(row: Row) -> str:
    """The file or archive member that a clip was cut from. Clips of one video are not independent."""
    return str(row.path) if row.offset is None else f"{row.path}@{row.offset}"


def _noise(noise: Config) -> Augment:
    return Augment(sound=SoundAugment(noise=1.0, noise_kind=noise["kind"], snr_db=(noise["snr_db"],) * 2))


def evaluate_run(
    run: Path,
    split: str,
    data: SplitData,
    augment: Augment | None = None,
    attention: Config | None = None,
    by_clip: Path | None = None,
    decoding: Config | None = None,
    views: Sequence[ClipView | None] = (None,),
) -> dict:
    """The record of `Evaluation.result` for the run's model, on clips augmented by `augment`.

    `attention`: replaces the mechanism that was trained. `by_clip`: a file X-clips.jsonl for a record of each clip;
    X-scores.safetensors beside it gets the scores of each tag. `decoding`: changes to the decoding of captions.
    `views`: scores are means over these, with one pass over the data for each.
    """
    checkpoint = load_model(run, attention, decoding)
    rows = data.rows[split]
    if not rows:
        raise UsageError(f"{run}: its data set has no {split} clips")
    checkpoint.vocabulary.check_known(rows, f"{split} split")
    datasets = [_dataset(data, split, checkpoint.vocabulary, augment, look) for look in views]
    loaders = [data.loader(dataset, train=False) for dataset in datasets]
    parts = [Evaluation(checkpoint.vocabulary, permutations=True) for _ in views]
    with Progress("evaluating", sum(map(len, loaders))) as progress:
        steps = ((part, batch) for part, loader in zip(parts, loaders, strict=True) for batch in loader)
        for done, (part, batch) in enumerate(steps, start=1):
            part.update(checkpoint.model, batch)
            progress.at(done)
    evaluation = parts[0] if len(parts) == 1 else Evaluation.mean(parts)
    if data.quarantine.reasons:
        print(f"{run}: {data.quarantine.left_out()}", file=sys.stderr)
    if by_clip:
        lines = (json.dumps(clip, ensure_ascii=True) + "\n" for clip in evaluation.clips(checkpoint.thresholds))
        write_atomically(by_clip, "".join(lines).encode())
        scores = f"{by_clip.stem.removesuffix('-clips')}-scores.safetensors"
        found, files = evaluation.clip_scores(), {row.id: _video(row) for row in rows}
        replace(found, videos=tuple(files[name] for name in found.ids)).save(by_clip.with_name(scores))
    switched: dict[str, Any] = {} if attention is None else {"switched": attention}
    switched |= {} if decoding is None else {"decoding": decoding}
    return {"split": split, **switched, **checkpoint.info, **evaluation.result(RESAMPLED, checkpoint.thresholds)}
