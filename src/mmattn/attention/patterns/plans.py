"""Plans: which pairs a pattern reads, computed once and kept with the geometry of the keys, or one operator in a graph.

A plan by places depends on the geometry and the pattern's settings alone, so layers that read the same tokens share it.
Its size may depend on the times of the tokens. Then making it reads a few numbers back from the device (windows.py),
and for a compiler it is one operator of unknown output size.

Shape legend as in interface.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from mmattn import types
from mmattn.attention.interface import Blocks, Geometry, Pattern

T = TypeVar("T")
_KNOWN: dict[str, Pattern] = {}  # by class and settings: an operator takes plain values only


def register(pattern: Pattern) -> str:
    """Register a pattern under a name made of its class and settings, by which the operator finds it."""
    settings = {name: value for name, value in vars(pattern).items() if not name.startswith("_") and name != "training"}
    kind = type(pattern)
    name = f"{kind.__module__}.{kind.__qualname__}({', '.join(f'{n}={_text(v)}' for n, v in sorted(settings.items()))})"
    _KNOWN.setdefault(name, pattern)
    return name


def _text(value: Any) -> str:
    return repr(sorted(value)) if isinstance(value, (set, frozenset)) else repr(value)


def plan(
    pattern: Pattern, name: str, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry
) -> list[Blocks] | None:
    """What `pattern` (registered as `name`) reads; parts without blocks are left out."""
    if pattern.by_vectors:
        return _made(pattern, name, q, k, q_geometry, k_geometry)
    return once((name,), q_geometry, k_geometry, lambda: _made(pattern, name, q, k, q_geometry, k_geometry))


def once(key: tuple[Any, ...], q_geometry: Geometry, k_geometry: Geometry, make: Callable[[], T]) -> T:
    """The result of `make`, which depends only on these geometries and `key`; stored with the geometry of the keys."""
    if any(g.keep is None and g.time is None for g in (q_geometry, k_geometry)):  # they fit tokens of any number
        return make()
    # the queries' tensors, not their geometry: two geometries that knew each other would outlive their batch
    queries = q_geometry.keep, q_geometry.time, q_geometry.segments, q_geometry.exempt
    return types.once(k_geometry.plans, (*key, *queries), make)


def _made(
    pattern: Pattern, name: str, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry
) -> list[Blocks] | None:
    if not torch.compiler.is_compiling():
        parts = pattern.plan(q, k, q_geometry, k_geometry)
        return parts and parts[:1] + [part for part in parts[1:] if len(part.query)]
    layout = pattern.layout(q_geometry, k_geometry)
    if layout is None:
        return None
    sides = [(g.keep, g.time, _names(g), list(g.lengths(x.shape[2]))) for g, x in ((q_geometry, q), (k_geometry, k))]
    found = torch.ops.mmattn.plan(name, q.detach(), k.detach(), *sides[0], *sides[1])
    return [
        Blocks(*found[3 * i : 3 * i + 3], per_head=pattern.per_head, beside=beside) for i, beside in enumerate(layout)
    ]


def _names(geometry: Geometry) -> str:
    """Of the segments; a "!" before those that are exempt."""
    return ",".join("!" * (name in geometry.exempt) + name for name, _ in geometry.segments)


def _geometry(keep: Tensor | None, time: Tensor | None, names: str, lengths: list[int]) -> Geometry:
    if not names:
        return Geometry(keep, time)
    marked = names.split(",")
    segments = tuple((name.removeprefix("!"), count) for name, count in zip(marked, lengths, strict=True))
    return Geometry(keep, time, segments, frozenset(name[1:] for name in marked if name[0] == "!"))


@torch.library.custom_op("mmattn::plan", mutates_args=())
def _plan(
    name: str,
    q: Tensor,
    k: Tensor,
    q_keep: Tensor | None,
    q_time: Tensor | None,
    q_names: str,
    q_lengths: list[int],
    k_keep: Tensor | None,
    k_time: Tensor | None,
    k_names: str,
    k_lengths: list[int],
) -> list[Tensor]:
    """Query, key and mask of each part, one after another."""
    sides = _geometry(q_keep, q_time, q_names, q_lengths), _geometry(k_keep, k_time, k_names, k_lengths)
    parts = _KNOWN[name].plan(q, k, *sides)
    assert parts is not None
    return [x.contiguous() for part in parts for x in (part.query, part.key, part.mask)]


@_plan.register_fake
def _(
    name: str,
    q: Tensor,
    k: Tensor,
    q_keep: Tensor | None,
    q_time: Tensor | None,
    q_names: str,
    q_lengths: list[int],
    k_keep: Tensor | None,
    k_time: Tensor | None,
    k_names: str,
    k_lengths: list[int],
) -> list[Tensor]:
    sides = _geometry(q_keep, q_time, q_names, q_lengths), _geometry(k_keep, k_time, k_names, k_lengths)
    layout, size = _KNOWN[name].layout(*sides), torch.library.get_ctx().new_dynamic_size
    found = []
    for _ in layout or ():
        blocks, queries, keys = size(), size(), size()
        shapes = ((blocks, queries), torch.int64), ((blocks, keys), torch.int64), ((blocks, queries, keys), torch.bool)
        found += [q.new_empty(shape, dtype=dtype) for shape, dtype in shapes]
    return found
