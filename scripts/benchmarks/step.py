"""Where a training step's time goes: `python scripts/benchmarks/step.py experiment=grid_words [train's key=value ...]`

Milliseconds of processor time a clip, forward and backward, of each part of the model on random clips of the recipe's
sizes; one thread, 32-bit and bfloat16 take turns, medians of rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from mmattn.config.compose import build, compose
from mmattn.data.load.dataset import missing_clip, stack_samples
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import ClipSpec
from mmattn.model import AVModel, build_model
from mmattn.types import Batch, Tokens

ROUNDS = 9
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def main() -> None:
    torch.set_num_threads(1)
    config = compose("train", ["data=folder", "data.root=.", *sys.argv[1:]])
    tags = tuple(f"slot{slot}/{word}" for slot in range(6) for word in range(9))
    vocabulary = TagVocabulary(tags, tuple(tuple(range(slot * 9, slot * 9 + 9)) for slot in range(6)))
    model = build_model(config, vocabulary)
    clips = config["data"]["batch_size"]
    batch = random_clips(build(config["data"]["clip"]), clips, len(tags))
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for precision, kind in PRECISIONS.items():
            with torch.autocast("cpu", kind, enabled=kind != torch.float32):
                for part, step in parts(model, batch).items():
                    start = time.process_time()
                    step().float().square().sum().backward()
                    taken.setdefault((part, precision), []).append((time.process_time() - start) / clips)
    for name in ("visual", "audio"):
        size = sum(weight.numel() for weight in getattr(model, name).parameters())
        print(f"{name}: {size / 1e6:.2f} M parameters, {getattr(model, name)(batch).values.shape[1]} tokens a clip")
    for (part, precision), seconds in taken.items():
        print(f"{part}, {precision}: {1e3 * median(seconds):.1f} ms a clip")


def parts(model: AVModel, batch: Batch) -> dict[str, Callable[[], torch.Tensor]]:
    with torch.no_grad():
        video, audio = (Tokens(tokens.values.float(), tokens.keep, tokens.times) for tokens in model.encode(batch))
    return {
        "visual": lambda: model.visual(batch).values,
        "audio": lambda: model.audio(batch).values,
        "fusion and task": lambda: model.task(model.fuse(video, audio)),
    }


def random_clips(spec: ClipSpec, clips: int, tags: int) -> Batch:
    whole = spec.finish(missing_clip(spec))
    samples = [
        replace(
            whole,
            frames=torch.randint_like(whole.frames, 256),
            frame_keep=torch.ones_like(whole.frame_keep),
            spectrogram=torch.randn_like(whole.spectrogram),
            spectrogram_keep=torch.ones_like(whole.spectrogram_keep),
        )
        for _ in range(clips)
    ]
    batch = stack_samples(samples, [str(number) for number in range(clips)], spec)
    batch.targets["tags"] = torch.zeros(clips, tags)
    return batch


if __name__ == "__main__":
    main()
