"""`mmattn explain`: what one file's tags owe to what it shows and sounds, moment by moment and place by place.

Descriptive measures (what the model looks at) and causal ones (what its scores depend on) stand beside each other and
are never mixed. The file is read in windows of the trained length, each moment belongs to one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.checkpoint import Checkpoint, load_model
from mmattn.config.compose import Config
from mmattn.data.load.dataset import stack_samples
from mmattn.data.prepare.clips import ClipSpec, Sample
from mmattn.errors import MediaError, MmattnError, UsageError
from mmattn.files import expanded, write_atomically
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.model import AVModel
from mmattn.progress import Progress
from mmattn.reports.explain.explained import Explained, ExplainedWindow, Steps, record
from mmattn.types import MODALITIES, LayerStats, Modality
from mmattn.weighting.causal import SUBSETS, Subset, subset_scores
from mmattn.weighting.faithful import Faithfulness, faithfulness
from mmattn.weighting.heat import EncodedClip, banzhaf, rollout

NAME = "explain"
NOISE = 2.0  # standard errors of the heat; what is below cannot be told from 0, and is shown as 0


def explain(config: Config) -> str:
    """Write the page, the video and the numbers; returns a line for a person.

    Raises UsageError for a wrong request and MmattnError for a file that cannot be read.
    """
    for key, least in (("tags", 1), ("masks", 2), ("height", 32)):
        if config[key] < least:
            raise UsageError(f"{key}={config[key]}: expected {least} or more")
    if config["heat"] not in ("causal", "attention"):
        raise UsageError(f"heat={config['heat']}: expected causal or attention")
    attention = config["heat"] == "attention"
    checkpoint = load_model(Path(str(config["run"])))
    if not checkpoint.vocabulary.names:
        raise UsageError(
            f"run={config['run']}: explain shows what tags owe to what, and this model only captions; "
            "mmattn predict tells it of every word"
        )
    source = expanded(str(config["source"]))
    if source.is_dir():
        raise UsageError(f"source={source}: is a directory; explain takes one file")
    out = Path(str(config["out"])) if config["out"] is not None else Path("runs") / f"{NAME}-{_plain(source)}"
    if out.exists() and not out.is_dir():
        raise UsageError(f"out={out}: not a directory; out= names the directory to write into")
    from mmattn.reports.explain.page import render
    from mmattn.reports.explain.video import write_overlay

    try:
        model = checkpoint.model.to(config["device"])
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={config['device']}: {str(error).splitlines()[0]}") from None
    with IsolatedReader(deadline_s=config["deadline_s"], follow_symlinks=config["follow_symlinks"]) as reader:
        try:
            found = _explained(checkpoint, model, source, reader, config)
            if attention and any(s.looked is None for w in found.windows for s in w.streams.values()):
                raise UsageError("heat=attention: the attention of this model has no weights to show; use heat=causal")
            out.mkdir(parents=True, exist_ok=True)
            stills = write_overlay(found, checkpoint.clip, reader, out / f"{NAME}.mp4", config["height"], attention)
        except MediaError as error:
            raise MmattnError(str(error)) from None
    write_atomically(out / f"{NAME}.json", (json.dumps(record(found), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(out / f"{NAME}.html", render(found, stills, f"{NAME}.mp4", attention))
    return f"{source}: {', '.join(found.tags)} -> {out / f'{NAME}.html'}"


def _plain(source: Path) -> str:
    return re.sub(r"[^\w.-]+", "_", source.stem)[:80] or "file"


def _explained(
    checkpoint: Checkpoint, model: AVModel, source: Path, reader: IsolatedReader, config: Config
) -> Explained:
    """In two passes, so that memory holds one window: which tags are best, then what they owe to what."""
    spec, names = checkpoint.clip, checkpoint.vocabulary.names
    scores, issues = [], set()
    for *_, sample, noticed in _windows(spec, source, reader):
        scores.append(_subsets(_encode(model, spec, sample, config["device"])))
        issues.update(noticed)
    mean = torch.stack([each["both"] for each in scores]).mean(dim=0)
    tags = _chosen(mean, names, config["tag"], config["tags"])
    windows = []
    with Progress("explaining", len(scores)) as progress:
        for (start, shown, end, sample, _), of_all in zip(_windows(spec, source, reader), scores, strict=True):
            clip = _encode(model, spec, sample, config["device"])
            streams, faithful = _window(clip, tags, start, config["masks"])
            heard = sample.spectrogram[sample.spectrogram_keep]
            of_tags = {subset: value[tags].cpu() for subset, value in of_all.items()}
            windows.append(ExplainedWindow(start, shown, end, heard, of_tags, streams, faithful))
            progress.at(len(windows))
    return Explained(source, [names[i] for i in tags], windows, sorted(issues))


def _windows(
    spec: ClipSpec, source: Path, reader: IsolatedReader
) -> Iterator[tuple[float, float, float, Sample, tuple[str, ...]]]:
    """start, shown, end, sample and issues of each window. The last one has all its length, and shows what is left.

    Where the duration is not known, windows go on until there is nothing more.
    """
    clip = spec.read(source, reader=reader.read, measure_end=True)
    duration = clip.duration
    start = shown = 0.0
    while True:
        rest = None if duration is None else duration - start - spec.seconds
        last = rest is not None and rest < 0.1 * spec.seconds  # headers count the encoder's padding
        end = start + spec.seconds
        yield start, shown, min(end, duration or end) if last else end, spec.prepare(clip), clip.issues
        if last:
            return
        shown = end
        start = end if rest is None else min(end, start + rest)
        clip = spec.read(source, start, reader=reader.read)
        if rest is None and (clip.frames is None or not len(clip.frames)) and clip.waveform is None:
            return


@torch.inference_mode()
def _encode(model: AVModel, spec: ClipSpec, sample: Sample, device: str) -> EncodedClip:
    return EncodedClip(model, *model.encode(stack_samples([sample], [""], spec).to(device)))


@torch.inference_mode()
def _subsets(clip: EncodedClip) -> dict[Subset, Float[Tensor, " K"]]:
    fused = clip.fused(frozenset())
    scores = subset_scores(clip.model, clip.video, clip.audio, fused)
    return {subset: scores[subset][0].float() for subset in SUBSETS}


def _chosen(mean: Tensor, names: tuple[str, ...] | list[str], tag: str | None, count: int) -> list[int]:
    best = mean.argsort(descending=True).tolist()[:count]
    if tag is None:
        return best
    if str(tag) not in names:
        raise UsageError(f"tag={tag}: the model does not know it; it knows {', '.join(names)}")
    index = list(names).index(str(tag))
    return [index, *(i for i in best if i != index)][:count]


def _window(
    clip: EncodedClip, tags: list[int], start: float, masks: int
) -> tuple[dict[Modality, Steps], dict[str, Faithfulness]]:
    causal, error = banzhaf(clip, tags, masks)
    told = {name: torch.where(heat.abs() > NOISE * error[:, None], heat, 0.0) for name, heat in causal.items()}
    looked = rollout(clip, tags)
    stats = clip.fused(frozenset({"mass"})).stats
    streams: dict[Modality, Steps] = {}
    for name in MODALITIES:
        tokens = clip.stream(name)
        if not tokens.keep.any():
            continue
        count = int(tokens.keep[0].sum())  # padding stands last
        times, places = _steps(tokens.times[0, :count])
        mass, prior = _sound_mass(stats, name, count)
        streams[name] = Steps(
            times.cpu() + start,
            told[name][:, :count].unflatten(1, (-1, places)).cpu(),
            None if looked is None else looked[name][:, :count].unflatten(1, (-1, places)).cpu(),
            None if mass is None else mass.view(-1, places).mean(dim=1).cpu(),
            prior,
        )
    moved: dict[str, tuple[Modality, ...]] = {name: (name,) for name in streams}
    if len(streams) == 2:
        moved["both"] = MODALITIES
    return streams, {name: faithfulness(clip, causal, 0, tags[0], which) for name, which in moved.items()}


def _steps(times: Tensor) -> tuple[Tensor, int]:
    """The instants of a stream, and how many tokens each has: those of one instant follow each other."""
    instants = torch.unique_consecutive(times)
    places = len(times) // max(1, len(instants))
    return (instants, places) if len(instants) * places == len(times) else (times, 1)


def _sound_mass(stats: tuple[LayerStats, ...], stream: Modality, count: int) -> tuple[Tensor | None, float | None]:
    """Of the stream's tokens: the mean over layers and heads of their attention mass (or gate) on sound, its prior."""
    both = [each for each in stats if each.stream == stream and set(MODALITIES) <= set(each.mass)]
    if not both:
        return None, None
    mass = torch.stack([each.mass["audio"][0].float().mean(dim=0)[:count] for each in both]).mean(dim=0)
    return mass, float(torch.stack([each.prior["audio"][0].float() for each in both]).mean())
