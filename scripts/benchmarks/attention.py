"""Time and memory of every attention mechanism over length, beside dense and beside what a user would pick instead.

    python scripts/benchmarks/attention.py lengths --plot docs/attention_cost.svg
    python scripts/benchmarks/attention.py peers     (pip install --no-deps -r scripts/benchmarks/attention_peers.txt)
    python scripts/benchmarks/attention.py bars
    ... --device cuda --lengths 1024,4096,16384,65536,131072

On a processor: one thread, processor time, the contenders taking turns, medians; memory is what a forked process's peak
grows by. On CUDA: events, and the allocator's peak. The shape is one clip of 2 heads of 32 channels; queries and keys
are half video, half audio, 200 tokens a second in all, as the fusions lay them out.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from pathlib import Path

import torch
from attention_bars import bars
from attention_cases import Inputs, both, forward, make, memory_of, table, times_of
from attention_peers import pairs

from mmattn.config.compose import group_choices

ByLength = dict[int, dict[str, float]]  # length, mechanism: seconds or MiB
FAMILIES = {
    "every pair": ["cosine", "gaussian", "sigmoid", "sparsemax", "entmax", "additive"],
    "some pairs": ["time_window", "sliding", "bigbird", "strided", "topk_blocks", "lsh", "routing"],
    "summaries": ["linear", "performer", "linformer", "nystrom", "latents", "coarse_fine", "token_merging"],
    "recurrent": ["gru", "gru_additive", "gated_linear"],
}


def lengths(device: str, sizes: list[int], plot: Path | None) -> None:
    """Tables of forward, forward + backward and memory, and how each grows from 2048 tokens on."""
    names = ["dense", *(name for name in group_choices("attention") if name != "dense")]
    mechanisms = {name: make(name, device) for name in names}
    inputs = {length: Inputs(length, device) for length in sizes}
    cases = {length: {n: given.case(m) for n, m in mechanisms.items()} for length, given in inputs.items()}
    memory = {length: {n: memory_of(case, device) for n, case in of.items()} for length, of in cases.items()}
    spent = {mode: {n: times_of(of, device, mode) for n, of in cases.items()} for mode in (forward, both)}
    for title, by_length in (("forward", spent[forward]), ("forward + backward", spent[both])):
        print(f"\n{title}, ms (times that of dense)\n")
        print(_by_length(names, by_length, lambda x, dense: f"{1000 * x:.3g} ({x / dense:.2g})"))
    print("\npeak memory of forward + backward beside the inputs, MiB\n")
    print(_by_length(names, memory, lambda x, _: f"{x:.0f}"))
    if plot:
        draw(spent[both], device, plot)


def _by_length(names: list[str], found: ByLength, cell) -> str:
    low, high = min((n for n in found if n >= 2048), default=min(found)), max(found)
    rows = []
    for name in names:
        cells = [cell(by[name], by["dense"]) if name in by else "-" for by in found.values()]
        ratio = found[high].get(name, math.nan) / max(found[low].get(name, math.nan), 1e-9)
        rows.append([name, *cells, f"{math.log(ratio) / math.log(high / low):.2f}" if high > low else ""])
    return table(["attention=", *found, f"exponent from {low}"], rows)


def compare(device: str, sizes: list[int]) -> None:
    """Each mechanism and its peer on the same q, k and v: one stream, its tokens at regular times."""
    rows: dict[tuple[str, str], list[str]] = {}
    for length in sizes:
        inputs = Inputs(length, device, segments=1)
        for name, other, ours, theirs in pairs(length, device):
            cells = rows.setdefault((name, other), [name, other])
            try:
                attend = theirs()
            except ImportError as error:
                cells += [f"{error.name} is not installed"] * 2
                continue
            cases = {"ours": inputs.case(ours), "theirs": lambda attend=attend, qkv=inputs.qkv: attend(*qkv)}
            for mode in (forward, both):
                found = times_of(cases, device, mode)
                a, b = (1000 * found[who] if who in found else math.nan for who in cases)
                cells.append(f"{a:.3g} / {b:.3g}: **{b / a:.2f}**" if b == b else f"{a:.3g} / too large")
    header = [f"{length}, {mode}" for length in sizes for mode in ("forward", "both")]
    print("ms of ours / of theirs: theirs over ours\n")
    print(table(["attention=", "instead", *header], rows.values()))


def draw(spent: ByLength, device: str, path: Path) -> None:
    """Time over length, a panel for each family, dense in all."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(FAMILIES), figsize=(14, 4), sharey=True, layout="constrained")
    for panel, (family, names) in zip(panels, FAMILIES.items(), strict=True):
        for name in ("dense", *names):
            points = [(length, 1000 * by[name]) for length, by in spent.items() if name in by]
            style = {"color": "black", "linewidth": 2.5} if name == "dense" else {"linewidth": 1.2}
            panel.loglog(*zip(*points, strict=True), label=name, **style)
        panel.set_title(family)
        panel.set_xlabel("tokens")
        panel.legend(fontsize=7, frameon=False)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"forward + backward, ms, {'one CPU thread' if device == 'cpu' else device}")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("lengths", "peers", "bars"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lengths", help="tokens, separated by commas")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers
    torch.set_num_threads(1)
    sizes = [int(n) for n in options.lengths.split(",")] if options.lengths else []
    print(f"torch {torch.__version__}, {options.device}, {time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f}\n")
    if options.part == "lengths":
        lengths(options.device, sizes or [256, 512, 1024, 2048, 4096, 8192, 16384], options.plot)
    elif options.part == "peers":
        compare(options.device, sizes or [2048, 8192])
    else:
        bars(options.device)


if __name__ == "__main__":
    main()
