"""A file in windows of the trained length: the heat of its tokens, the attention, and how faithful the heat is.

Descriptive measures (what the model looks at) and causal ones (what its scores depend on) are kept apart. Each moment
of the file belongs to one window.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.checkpoint import Checkpoint
from mmattn.config.compose import Config
from mmattn.data.load.dataset import stack_samples
from mmattn.data.prepare.clips import ClipSpec, Sample
from mmattn.errors import UsageError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.model import AVModel
from mmattn.progress import Progress
from mmattn.reports.explain.explained import Explained, ExplainedWindow, Steps
from mmattn.types import MODALITIES, LayerStats, Modality
from mmattn.weighting.causal import SUBSETS, Subset, subset_scores
from mmattn.weighting.heat.banzhaf import banzhaf
from mmattn.weighting.heat.encoded_clip import EncodedClip
from mmattn.weighting.heat.faithfulness import Faithfulness, faithfulness
from mmattn.weighting.heat.rollout import rollout

NOISE = 2.0  # standard errors of the heat; what is smaller is not distinguishable from 0 and set to 0


def explained(
    checkpoint: Checkpoint, model: AVModel, source: Path, reader: IsolatedReader, config: Config
) -> Explained:
    """Explain the file in two passes, so that memory holds one window: the best tags, then what they depend on."""
    spec, names = checkpoint.clip, checkpoint.vocabulary.names
    scores, issues = [], set()
    for *_, sample, found in _windows(spec, source, reader):
        scores.append(_subsets(_encode(model, spec, sample, config["device"])))
        issues.update(found)
    mean = torch.stack([each["both"] for each in scores]).mean(dim=0)
    tags = _chosen(mean, names, config["tag"], config["tags"])
    windows = []
    with Progress("explaining", len(scores)) as progress:
        for (start, shown, end, sample, _), of_all in zip(_windows(spec, source, reader), scores, strict=True):
            clip = _encode(model, spec, sample, config["device"])
            streams, faithful = _window(clip, tags, start, config["masks"])
            spectrogram = sample.spectrogram[sample.spectrogram_keep]
            of_tags = {subset: value[tags].cpu() for subset, value in of_all.items()}
            windows.append(ExplainedWindow(start, shown, end, spectrogram, of_tags, streams, faithful))
            progress.at(len(windows))
    return Explained(source, [names[i] for i in tags], windows, sorted(issues))


def _windows(
    spec: ClipSpec, source: Path, reader: IsolatedReader
) -> Iterator[tuple[float, float, float, Sample, tuple[str, ...]]]:
    """Start, shown, end, sample and issues of each window. The last one has the full length and shows the remainder.

    Where the duration is unknown, windows continue until nothing more can be read.
    """
    clip = spec.read(source, reader=reader.read, measure_end=True)
    duration = clip.duration
    start = shown = 0.0
    while True:
        rest = None if duration is None else duration - start - spec.seconds
        last = rest is not None and rest < 0.1 * spec.seconds  # headers include the encoder's padding
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
        raise UsageError(f"tag={tag}: not a tag of this model; choose from {', '.join(names)}")
    index = list(names).index(str(tag))
    return [index, *(i for i in best if i != index)][:count]


def _window(
    clip: EncodedClip, tags: list[int], start: float, masks: int
) -> tuple[dict[Modality, Steps], dict[str, Faithfulness]]:
    causal, error = banzhaf(clip, tags, masks)
    heat = {name: torch.where(value.abs() > NOISE * error[:, None], value, 0.0) for name, value in causal.items()}
    looked = rollout(clip, tags)
    stats = clip.fused(frozenset({"mass"})).stats
    streams: dict[Modality, Steps] = {}
    for name in MODALITIES:
        tokens = clip.stream(name)
        if not tokens.keep.any():
            continue
        count = int(tokens.keep[0].sum())  # padding is last
        times, places = _steps(tokens.times[0, :count])
        mass, prior = _audio_mass(stats, name, count)
        streams[name] = Steps(
            times.cpu() + start,
            heat[name][:, :count].unflatten(1, (-1, places)).cpu(),
            None if looked is None else looked[name][:, :count].unflatten(1, (-1, places)).cpu(),
            None if mass is None else mass.view(-1, places).mean(dim=1).cpu(),
            prior,
        )
    moved: dict[str, tuple[Modality, ...]] = {name: (name,) for name in streams}
    if len(streams) == 2:
        moved["both"] = MODALITIES
    return streams, {name: faithfulness(clip, causal, 0, tags[0], which) for name, which in moved.items()}


def _steps(times: Tensor) -> tuple[Tensor, int]:
    """The instants of a stream, and the number of consecutive tokens that each has."""
    instants = torch.unique_consecutive(times)
    places = len(times) // max(1, len(instants))
    return (instants, places) if len(instants) * places == len(times) else (times, 1)


def _audio_mass(stats: tuple[LayerStats, ...], stream: Modality, count: int) -> tuple[Tensor | None, float | None]:
    """Mass on audio of the stream's tokens (attention or gate), the mean over layers and heads, and its prior."""
    both = [each for each in stats if each.stream == stream and set(MODALITIES) <= set(each.mass)]
    if not both:
        return None, None
    mass = torch.stack([each.mass["audio"][0].float().mean(dim=0)[:count] for each in both]).mean(dim=0)
    return mass, float(torch.stack([each.prior["audio"][0].float() for each in both]).mean())
