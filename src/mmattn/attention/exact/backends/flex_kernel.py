"""FlexAttention, compiled: one callable for each type, width and gradient mode, and never run without its compiler.

Without a compiler, or beyond its limit of graphs, `flex_attention` makes the full matrix of scores. So each callable is
compiled as one graph with dynamic lengths, has its own limit of graphs, and raises an error when it reaches the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

NARROWEST = 16  # channels: the compiler refuses narrower heads, and zero channels change no score
MOST_GRAPHS = 32  # of a callable: one clip or some, one tile or some on either side, a multiple of the tile or not
Key = tuple[str, torch.dtype, int, int, tuple[bool, ...]]


def key_of(q: Tensor, k: Tensor, v: Tensor) -> Key:
    """What a callable is compiled for: device, type, widths of keys and of values, and which inputs need gradients."""
    wants = tuple(torch.is_grad_enabled() and x.requires_grad for x in (q, k, v))
    return q.device.type, q.dtype, q.shape[3], v.shape[3], wants


@cache
def compiled(key: Key, backend: str = "inductor") -> Callable:
    """The callable for this key. It raises RuntimeError instead of compiling more than MOST_GRAPHS graphs."""
    from torch._dynamo.exc import FailOnRecompileLimitHit
    from torch.nn.attention.flex_attention import flex_attention

    kernel = torch.compile(  # type: ignore[call-overload]
        flex_attention,
        fullgraph=True,
        dynamic=True,
        backend=backend,
        recompile_limit=MOST_GRAPHS,
        isolate_recompiles=True,  # else the graphs of one key count for all
    )

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return kernel(*args, **kwargs)
        except FailOnRecompileLimitHit as error:
            raise RuntimeError(
                f"FlexAttention met more than {MOST_GRAPHS} kinds of shapes for {key}; "
                "running it without its compiler would make the full matrix of scores: use fewer different lengths"
            ) from error

    return run


def widened(x: Tensor) -> Tensor:
    """Zero channels up to a multiple of NARROWEST."""
    return pad(x, (0, -x.shape[3] % NARROWEST)) if x.shape[3] % NARROWEST else x
