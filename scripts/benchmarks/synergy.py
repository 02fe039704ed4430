"""Which fusions learn whether sounds are in time with flashes, and from how many clips.

    python scripts/benchmarks/synergy.py [STEPS [CLIPS]] [CASE...]

The synergy of AVShapes without its encoders: 12 slots of 0.25 s in three random schedules of four. The left thing
flashes at the first and the right one at the second; the sound follows one of the three. A token knows whether there is
a flash or a sound at its time. Each step has new clips, so that nothing can be memorised, or clips from a set of CLIPS
with new noise. Prints the accuracy on 2000 other clips (chance .333) after each quarter of the steps. A CASE is
fusion/attention, with settings: bottleneck/dense,tokens=16.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmattn.config.compose import build, read_choice
from mmattn.types import Tokens

DIM, HEADS, BATCH, LR = 32, 4, 64, 2e-3
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


def draw(clips: int) -> tuple[Tensor, Tensor]:
    """Where the slots of the three schedules are (B, 3, SLOTS), and which of them the sound follows."""
    order = torch.rand(clips, SLOTS).argsort(dim=1).unflatten(1, (3, -1))
    return torch.zeros(clips, 3, SLOTS).scatter_(2, order, 1.0), torch.randint(3, (clips,))


def rendered(at: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Flashes (B, VIDEO, 2) of the left and the right thing, and sounds (B, AUDIO, 1), with noise."""
    flashes = at[:, :2].repeat_interleave(VIDEO // SLOTS, dim=2).transpose(1, 2)
    sounds = at[torch.arange(len(at)), source].repeat_interleave(AUDIO // SLOTS, dim=1)[..., None]
    return flashes + 0.1 * torch.randn_like(flashes), sounds + 0.1 * torch.randn_like(sounds)


def learned(case: str, steps: int, clips: int) -> list[float]:
    """The accuracy after each quarter of the steps. `clips`: size of the training set; 0 = new ones in each step."""
    torch.manual_seed(0)
    model = Model(case)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR)
    known, (seen, answers), found = draw(clips), draw(2000), []
    for step in range(1, steps + 1):
        chosen = torch.randint(max(clips, 1), (BATCH,))
        at, source = (part[chosen] for part in known) if clips else draw(BATCH)
        loss = nn.functional.cross_entropy(model(*rendered(at, source)), source)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if not step % max(1, steps // 4):
            with torch.no_grad():
                found.append(float((model(*rendered(seen, answers)).argmax(dim=1) == answers).float().mean()))
    return found


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    numbers = [int(text) for text in arguments if text.isdigit()]
    steps, clips = [*numbers, *(2000, 0)[len(numbers) :]]
    for case in [text for text in arguments if not text.isdigit()] or CASES:
        print(f"{case}: {', '.join(f'{share:.3f}' for share in learned(case, steps, clips))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
