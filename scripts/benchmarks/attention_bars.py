"""What attention promises: windows beside the equal dense mask, over many tokens and over few, and what mass costs.

A window's plan is made once for the places of a batch's tokens. So it is timed twice: known, as in every layer after
the first, and made anew in each pass, as in the first.
"""

from __future__ import annotations

import torch
from attention_cases import MASS, Case, Inputs, both, forward, make, table, times_of
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmattn.attention.exact.backends import masked
from mmattn.attention.interface import Attention, Geometry
from mmattn.attention.patterns.sparse import Windowed
from mmattn.config.compose import build, group_choices, read_choice

WINDOWS = ("time_window", "sliding", "global_local")
FEW = ((16, 4, 16, 96, 171), (1, 2, 32, 256, 256), (1, 2, 32, 512, 512), (1, 2, 32, 1024, 1024))
MODES = (("forward", forward), ("forward + backward", both))


def bars(device: str) -> None:
    _many(device)
    if device == "cpu":
        _few()
    _mass(device)


def _many(device: str) -> None:
    length = 4000  # of 40 s: 25 pictures a second with 4 tokens each, and sound at 100 Hz
    inputs = Inputs(length, device, segments=1)
    video = (torch.arange(length // 4) / 25).repeat_interleave(4)[None].to(device)
    audio = (torch.arange(length) / 100)[None].to(device)
    inside = ((audio[:, None] - video[..., None]).abs() <= 0.5 + 5e-4)[:, None]
    window = make("time_window", device, pattern__past_s=0.5, pattern__future_s=0.5)

    def places() -> tuple[Geometry, Geometry]:
        return Geometry(None, video, (("video", length),)), Geometry(None, audio, (("audio", length),))

    known, sdpa = places(), lambda: scaled_dot_product_attention(*inputs.qkv, attn_mask=inside)
    cases: dict[str, Case] = {
        "plan known": lambda: window(*inputs.qkv, *known).out,
        "planned anew": lambda: window(*inputs.qkv, *places()).out,
        "SDPA with the equal mask": sdpa,
    }
    error = float((cases["plan known"]() - sdpa()).detach().abs().max())
    print(f"time_window: {length} x {length} tokens, density {float(inside.float().mean()):.4f}, "
          f"largest difference {error:.1e}\n")  # fmt: skip
    rows = []
    for title, mode in MODES:
        *ours, dense = times_of(cases, device, mode).values()
        rows.append([title, *(f"{1000 * x:.3g}" for x in (*ours, dense)), *(f"**{dense / x:.1f}**" for x in ours)])
    print(table(["ms", *cases, "ratio, known", "ratio, anew"], rows))


def _few() -> None:
    print("\nfew tokens: a window's time over that of SDPA with the equal mask, plan known / planned anew\n")
    rows = []
    for b, h, d, lq, lk in FEW:
        q, k, v = (torch.randn(b, h, n, d, requires_grad=True) for n in (lq, lk, lk))
        cases: dict[str, Case] = {}
        for name in WINDOWS:
            attention = build(read_choice("attention", name))(h, d)
            cases |= _three(name, attention, [q, k, v])
        for title, mode in MODES:
            spent = times_of(cases, "cpu", mode)
            cells = [" / ".join(f"{spent[f'{name}, {how}'] / spent[f'{name}, SDPA']:.2f}" for how in ("known", "anew"))
                     for name in WINDOWS]  # fmt: skip
            rows.append([f"{b} x {h} x {d}, {lq} x {lk}", title, *cells])
    print(table(["clips x heads x channels, queries x keys", "", *WINDOWS], rows))


def _three(name: str, attention: Attention, qkv: list[Tensor]) -> dict[str, Case]:
    (b, _, lq, _), lk = qkv[0].shape, qkv[1].shape[2]
    pattern = attention.pattern
    assert isinstance(pattern, Windowed)

    def places() -> tuple[Geometry, Geometry]:
        parts = [(torch.arange(n) * (10 / n)).expand(b, -1) for n in (lq, lk // 2, lk - lk // 2)]
        keys = Geometry(None, torch.cat(parts[1:], dim=1), (("video", lk // 2), ("audio", lk - lk // 2)))
        return Geometry(None, parts[0], (("video", lq),)), keys

    known = places()
    pairs = masked.pairs(pattern, qkv[0], qkv[1], *known)
    return {
        f"{name}, known": lambda: attention(*qkv, *known).out,
        f"{name}, anew": lambda: attention(*qkv, *places()).out,
        f"{name}, SDPA": lambda: scaled_dot_product_attention(*qkv, attn_mask=pairs),
    }


def _mass(device: str) -> None:
    print("\ntime with mass over time without it, 4096 tokens\n")
    inputs, rows = Inputs(4096, device), []
    for name in group_choices("attention"):
        mechanism = make(name, device)
        if "mass" in mechanism.supports:
            pair = {"without": inputs.case(mechanism), "with": inputs.case(mechanism, MASS)}
            found = [times_of(pair, device, mode) for mode in (forward, both)]
            rows.append([name, *(f"{spent['with'] / spent['without']:.2f}" for spent in found)])
    print(table(["attention=", "forward", "forward + backward"], rows))
