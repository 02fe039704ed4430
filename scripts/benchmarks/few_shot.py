"""How far a few labelled sounds go: classes from the mean of frozen YAMNet tokens, beside YAMNet's own names for them.

    python scripts/benchmarks/few_shot.py ESC10 [--pretrained FOLDER]

ESC10: a folder of sounds a class. For each number of labelled sounds a class, DRAWS draws at random; all others are the
test. The classifier is logistic regression on the tokens of the labelled sounds, each of unit length; its penalty is
fixed beforehand, nothing is chosen on the test. Intervals are Student's t over draws. Zero-shot: the class whose names
in AudioSet score highest (mean over the file), on the same test sounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pretrained import ESC10  # beside this file
from scipy.stats import t
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from mmattn.encoders.pretrained.yamnet.network import fill_last_patch, patch_count, to_patches
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.sounds import Sounds
from mmattn.media import read_clip

SHOTS, DRAWS = (1, 2, 5), 5
PENALTY = 1e-3  # of the squared weights, times the mean loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pretrained", help="folder with YAMNet; without it the installed package")
    options = parser.parse_args()
    torch.set_num_threads(1)
    classes = sorted(path.name for path in options.folder.iterdir() if path.is_dir())
    files = [path for name in classes for path in sorted((options.folder / name).iterdir())]
    labels = torch.tensor([classes.index(path.parent.name) for path in files])
    tokens, scores = listen(files, options.pretrained)
    guess = torch.stack([scores[:, places].amax(dim=1) for places in _places(classes, options.pretrained)], dim=1)
    zero_shot = (guess.argmax(dim=1) == labels).float()
    print(f"{len(files)} sounds of {len(classes)} classes; zero-shot on all: {100 * zero_shot.mean():.1f} %\n")
    print("| labelled sounds a class | test sounds | accuracy, % (95 % interval) | zero-shot on the same, % |")
    print("|---|---|---|---|")
    for shots in SHOTS:
        own, other = [], []
        for draw in range(DRAWS):
            taken = drawn(labels, shots, draw)
            own.append(float((fitted(tokens[taken], labels[taken])(tokens[~taken]) == labels[~taken]).float().mean()))
            other.append(float(zero_shot[~taken].mean()))
        print(f"| {shots} | {len(files) - shots * len(classes)} | {_told(own)} | {_told(other)} |")


def listen(files: list[Path], pretrained: str | None) -> tuple[Tensor, Tensor]:
    """Of each file, the mean of its tokens at unit length (N, 1024), and the mean scores of AudioSet's classes."""
    listener = Sounds(Setting(pretrained))
    tokens, scores = [], []
    with torch.inference_mode():
        for path in files:
            waveform = read_clip(path, video=False, audio_rate=16000).waveform
            assert waveform is not None, f"{path} has no sound"
            patches = to_patches(listener.front_end(fill_last_patch(waveform[None])))[0]
            embedded = listener.network.embed(patches[: int(patch_count(torch.tensor(len(waveform))))])
            tokens.append(normalize(embedded.mean(dim=0), dim=0))
            scores.append(torch.sigmoid(listener.network.classes(embedded)).mean(dim=0))
    return torch.stack(tokens), torch.stack(scores)


def drawn(labels: Tensor, shots: int, draw: int) -> Tensor:
    """(N,) bool: `shots` sounds of each class."""
    generator = torch.Generator().manual_seed(1000 * shots + draw)
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        taken[own[torch.randperm(len(own), generator=generator)[:shots]]] = True
    return taken


def fitted(tokens: Tensor, labels: Tensor):
    """Logistic regression by L-BFGS; tokens -> labels."""
    weight = torch.zeros(int(labels.max()) + 1, tokens.shape[1], requires_grad=True)
    bias = torch.zeros(len(weight), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(tokens @ weight.T + bias, labels) + PENALTY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return lambda others: (others @ weight.T + bias).argmax(dim=1)


def _places(classes: list[str], pretrained: str | None) -> list[list[int]]:
    listener = Sounds(Setting(pretrained))
    return [[listener.names.index(name) for name in ESC10[label]] for label in classes]


def _told(values: list[float]) -> str:
    found = 100 * torch.tensor(values, dtype=torch.float64)
    half = float(t.ppf(0.975, len(found) - 1)) * float(found.std()) / len(found) ** 0.5
    return f"{float(found.mean()):.1f} ± {half:.1f}"


if __name__ == "__main__":
    main()
