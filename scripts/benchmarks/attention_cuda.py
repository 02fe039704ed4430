"""One session on a GPU, of under ten minutes: is every mechanism right there, and how fast is it, alone and in a step?

    python scripts/benchmarks/attention_cuda.py --out attention_cuda.md
    python scripts/benchmarks/attention_cuda.py --device cpu      (small, to see that it runs)

Four tables in Markdown: each mechanism of conf/attention in each type against itself in float64 on the processor,
forward and gradients; time windows of 2.5 % density beside dense attention, beside FlexAttention with its own mask, and
gathered; the cost of mass; and steps of a whole model (attention_steps.py). Shape of the first three: one clip, 8 heads
of 64 channels, bfloat16; keys are half video, half audio. Ends with 1 where anything is wrong: the lines on standard
error say what, and a deadline ends a session that hangs.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import math
import re
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from attention_cases import MASS, Case, both, forward, memory_of, table, times_of
from attention_steps import HEADER, steps
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmattn.attention.exact.backends import flex_check
from mmattn.attention.interface import Attention, Geometry
from mmattn.config.compose import build, compose, group_choices

HEADS, DIM, DENSITY, SECONDS = 8, 64, 0.025, 100.0
DTYPES = {"cuda": (torch.float32, torch.bfloat16, torch.float16), "cpu": (torch.float32, torch.bfloat16)}
DEADLINE_S = 600
WRONG = re.compile(r"\*\*(not a number|\w+: |\d\.\de[+-]\d\d)")  # bold: an error, or more of one than is allowed
SLACK = 32  # an error is all right below this many units of rounding, of the largest value


def make(name: str, *settings: str) -> Attention:
    torch.manual_seed(0)
    overrides = [f"attention.{text}" for text in settings]
    return build(compose("train", [f"attention={name}", *overrides])["attention"])(HEADS, DIM).eval()


def streams(lq: int, lk: int, b: int = 1, device: str = "cpu", padding: bool = False) -> tuple[Geometry, Geometry]:
    def times(length: int) -> Tensor:
        return ((torch.arange(length) + 0.5) * (SECONDS / max(1, length))).expand(b, -1).to(device)

    half = lk // 2
    keep = None
    if padding:
        keep = torch.ones(b, lk, dtype=torch.bool, device=device)
        keep[0, half - half // 3 : half] = False  # the end of the video; and a clip with nothing at all
        keep[-1] = False
    time = torch.cat([times(half), times(lk - half)], dim=1)
    return Geometry(None, times(lq), (("video", lq),)), Geometry(keep, time, (("video", half), ("audio", lk - half)))


def check(device: str, lq: int, lk: int, names: list[str]) -> list[list[str]]:
    """Largest error of output, mass and gradients, in units of rounding of the largest value; over SLACK is said."""
    rows = []
    for name in names:
        cells = [name]
        for dtype in DTYPES[device]:
            try:
                worst, most = _error(name, device, dtype, lq, lk)
                verdict = "" if worst <= SLACK else f" ({most:.1%} of the rows above {SLACK})"
                cells.append(f"{worst:.1f}{verdict}" if math.isfinite(worst) else "**not a number**")
            except Exception as error:  # the table says what failed, and the session goes on
                cells.append(f"**{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}**")
        rows.append(cells)
        print(*cells, sep=" | ", file=sys.stderr, flush=True)
    return rows


def _error(name: str, device: str, dtype: torch.dtype, lq: int, lk: int) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(2, HEADS, n, DIM, generator=generator).to(dtype) for n in (lq, lk, lk)]
    weigh = torch.randn(2, HEADS, lq, DIM, generator=generator).to(dtype)

    def run(attention: Attention, device: str, dtype: torch.dtype) -> list[Tensor]:
        q, k, v = (x.to(device, dtype).requires_grad_() for x in given)
        stats = MASS & attention.supports
        result = attention(q, k, v, *streams(lq, lk, 2, device, padding=True), stats)
        total = (result.out * weigh.to(device, dtype)).sum() + sum(x[..., 0].sum() for x in result.stats.values())
        grads = torch.autograd.grad(total, (q, k, v))
        return [x.detach().double().cpu() for x in (result.out, *result.stats.values(), *grads)]

    attention = make(name)
    exact = run(attention.double(), "cpu", torch.float64)
    found = run(attention.to(device, torch.float32), device, dtype)
    worst, most = 0.0, 0.0
    for ours, theirs in zip(found, exact, strict=True):
        off = (ours - theirs).abs().amax(dim=-1) / (torch.finfo(dtype).eps * theirs.abs().max())
        worst = max(worst, float(off.max())) if off.isfinite().all() else math.nan
        most = max(most, float((off > SLACK).double().mean()))
    return worst, most


def windows(device: str, dtype: torch.dtype, sizes: list[int], dense_mask_up_to: int) -> list[list[str]]:
    rows = []
    for length in sizes:
        queries, keys = streams(length, length, device=device)
        assert queries.time is not None and keys.time is not None
        qkv = [torch.randn(1, HEADS, length, DIM, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
        reach = DENSITY * SECONDS / 2
        window = make("time_window", f"pattern.past_s={reach}", f"pattern.future_s={reach}").to(device)
        cases: dict[str, Case] = {
            "window": lambda qkv=qkv, queries=queries, keys=keys, window=window: window(*qkv, queries, keys).out,
            "dense": lambda q=qkv: scaled_dot_product_attention(q[0], q[1], q[2]),
        }
        if length <= dense_mask_up_to:
            apart = (queries.time[0][:, None] - keys.time[0]).abs() <= reach + 5e-4
            cases["masked dense"] = lambda q=qkv, m=apart: scaled_dot_product_attention(q[0], q[1], q[2], m)
        if device == "cuda":
            cases["own mask"] = _flex_with_its_own_mask(qkv, queries.time[0], keys.time[0], reach + 5e-4)
            cases["gathered"] = _gathered(cases["window"])
        for title, mode in (("forward", forward), ("forward + backward", both)):
            spent = times_of(cases, device, mode)
            ms = [f"{1000 * spent[name]:.3g}" if name in spent else "-" for name in WINDOW_CASES]
            ratios = [
                f"**{spent[name] / spent['window']:.2f}**" if name in spent else "-"
                for name in WINDOW_CASES
                if name != "window"
            ]
            memory = (
                [f"{memory_of(cases[name], device):.0f}" for name in ("window", "dense")] if mode is both else ["", ""]
            )
            rows.append([str(length), title, *ms, *ratios, *memory])
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    return rows


WINDOW_CASES = ("window", "dense", "masked dense", "own mask", "gathered")


def _flex_with_its_own_mask(qkv: list[Tensor], q_time: Tensor, k_time: Tensor, reach: float) -> Case:
    """What someone would write with FlexAttention alone; the keys of both streams in the order of time."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    order = k_time.argsort()
    k_time = k_time[order]

    def mask_mod(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (q_time[i] - k_time[j]).abs() <= reach

    mask = torch.compile(create_block_mask)(mask_mod, None, None, len(q_time), len(k_time), device=q_time.device)
    compiled = torch.compile(flex_attention)
    q, k, v = qkv[0], *(x.detach()[:, :, order].requires_grad_() for x in qkv[1:])
    return lambda: compiled(q, k, v, block_mask=mask)


def _gathered(case: Case) -> Case:
    def run() -> Tensor:
        usable, flex_check.usable = flex_check.usable, lambda q, k, v: False
        try:
            return case()
        finally:
            flex_check.usable = usable

    return run


def mass(device: str, dtype: torch.dtype, length: int) -> list[list[str]]:
    queries, keys = streams(length, length, device=device)
    qkv = [torch.randn(1, HEADS, length, DIM, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
    rows = []
    for name in ("dense", "time_window"):
        attention = make(name).to(device)
        pair: dict[str, Callable[[], Tensor]] = {
            "without": lambda attention=attention: attention(*qkv, queries, keys).out,
            "with": lambda attention=attention: attention(*qkv, queries, keys, MASS).out,
        }
        for title, mode in (("forward", forward), ("forward + backward", both)):
            spent = times_of(pair, device, mode)
            ratio = spent["with"] / spent["without"]
            rows.append(
                [name, title, f"{1000 * spent['without']:.3g}", f"{1000 * spent['with']:.3g}", f"**{ratio:.2f}**"]
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--lengths", default="4096,8192,16384,32768,65536,131072")
    parser.add_argument("--only", default=",".join(group_choices("attention")), help="mechanisms, separated by commas")
    parser.add_argument("--out", type=Path, help="write the tables here too")
    given = parser.parse_args()
    cuda = given.device == "cuda"
    if cuda and not torch.cuda.is_available():
        parser.exit(2, "no CUDA device is here; --device cpu shows that the script runs\n")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    torch.set_num_threads(torch.get_num_threads() if cuda else 1)
    dtype = torch.bfloat16 if cuda else torch.float32
    lq, lk = (1100, 1600) if cuda else (60, 90)  # long enough for FlexAttention; no multiple of its tiles
    sizes = [int(text) for text in given.lengths.split(",")] if cuda else [256]
    long = 32768 if cuda else sizes[-1]
    names, machine = given.only.split(","), torch.cuda.get_device_name() if cuda else "a processor"
    parts = [
        f"## Attention on {machine}, torch {torch.__version__}, {date.today()}",
        f"Error against float64 in units of rounding of the largest value (below {SLACK}: fine), {lq} x {lk} tokens",
        table(["attention=", *map(str, DTYPES[given.device])], check(given.device, lq, lk, names)),
        f"Time windows of {DENSITY:.1%} density, {dtype}: ms; others over window; MiB of forward + backward",
        table(
            ["tokens", "", *WINDOW_CASES, *(f"{n} / window" for n in WINDOW_CASES[1:]), "MiB window", "MiB dense"],
            windows(given.device, dtype, sizes, 16384),
        ),
        f"The cost of mass, {long} tokens: ms",
        table(["attention=", "", "without", "with", "ratio"], mass(given.device, dtype, long)),
        "Steps of a whole model (fusion=cross): the error of gradients, or of scores; how often the processor waits",
        table(HEADER, steps(given.device, not cuda, [name for name in ("dense", "time_window") if name in names])),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    wrong = [line for line in text.splitlines() if WRONG.search(line)]
    print(*(f"wrong: {line}" for line in wrong), sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
    sys.exit(main())
