"""Which fusions learn whether sounds are in time with flashes: `python scripts/benchmarks/synergy.py [STEPS] [CASE...]`

The synergy of AVShapes without its encoders: 12 slots of 0.25 s in three random schedules of four. The left thing
flashes at the first and the right one at the second; the sound follows one of the three. A token knows whether there is
a flash or a sound at its time. Each step has new clips, so nothing can be memorised. Prints the accuracy on 2000 clips
(chance .333) after each quarter of the steps. A CASE is fusion/attention, with settings: bottleneck/dense,tokens=16.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmattn.config.compose import build, read_choice
from mmattn.types import Tokens

DIM, HEADS, CLIPS, LR = 32, 4, 64, 2e-3
SLOTS, SECONDS = 12, 3.0
VIDEO, AUDIO = 24, 48  # tokens of a clip
CASES = (
    "cross/dense",
    "concat/dense",
    "cross/linear",
    "concat/linear",
    "bottleneck/dense",
    "bottleneck/dense,tokens=16",
    "late/dense",
)


class Model(nn.Module):
    """Token features to channels, the fusion, and the mean of all tokens to three classes."""

    def __init__(self, case: str) -> None:
        super().__init__()
        names, *settings = case.split(",")
        fusion, attention = names.split("/")
        given = {"dim": DIM, "heads": HEADS, "dropout": 0.0, "attention": read_choice("attention", attention)}
        given |= {"position": read_choice("position", "rotary")}
        given |= {key: int(value) for key, value in (text.split("=") for text in settings)}
        self.fusion = build({**read_choice("fusion", fusion), **given})
        self.video, self.audio, self.head = nn.Linear(2, DIM), nn.Linear(1, DIM), nn.Linear(2 * DIM, 3)

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        fused = self.fusion(as_tokens(self.video(video)), as_tokens(self.audio(audio)))
        return self.head(torch.cat([fused.video.values.mean(dim=1), fused.audio.values.mean(dim=1)], dim=1))


def as_tokens(values: Tensor) -> Tokens:
    clips, count, _ = values.shape
    times = (torch.arange(count) + 0.5) * SECONDS / count
    return Tokens(values, torch.ones(clips, count, dtype=torch.bool), times.expand(clips, count), True)


def draw(clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flashes (left, right) and sounds with noise, and which schedule the sound follows."""
    order = torch.rand(clips, SLOTS).argsort(dim=1).unflatten(1, (3, -1))
    at = torch.zeros(clips, 3, SLOTS).scatter_(2, order, 1.0)
    source = torch.randint(3, (clips,))
    flashes = at[:, :2].repeat_interleave(VIDEO // SLOTS, dim=2).transpose(1, 2)
    sounds = at[torch.arange(clips), source].repeat_interleave(AUDIO // SLOTS, dim=1)[..., None]
    return flashes + 0.1 * torch.randn_like(flashes), sounds + 0.1 * torch.randn_like(sounds), source


def learned(case: str, steps: int) -> list[float]:
    torch.manual_seed(0)
    model = Model(case)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR)
    found = []
    for step in range(1, steps + 1):
        video, audio, source = draw(CLIPS)
        loss = nn.functional.cross_entropy(model(video, audio), source)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if not step % max(1, steps // 4):
            with torch.no_grad():
                video, audio, source = draw(2000)
                found.append(float((model(video, audio).argmax(dim=1) == source).float().mean()))
    return found


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    steps = int(arguments[0]) if arguments and arguments[0].isdigit() else 2000
    for case in [text for text in arguments if not text.isdigit()] or CASES:
        print(f"{case}: {', '.join(f'{share:.3f}' for share in learned(case, steps))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
