"""Every fusion once more, written from its definition for one clip without padding: plain softmax attention, in loops.

Nothing here masks, batches or measures. A part is (what its tokens are, their values (n, D), their times (n)).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from mmattn.attention.positions.alibi import ALiBi

Part = tuple[str, Tensor, Tensor]
LEARNED = ("latent", "bottleneck")


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def turned(x: Tensor, times: Tensor) -> Tensor:
    """Channel i and i + d/2 as a complex number, turned once in its period: 0.2 to 20 s, in equal ratios."""
    half = x.shape[-1] // 2
    periods = 0.2 * 100 ** (torch.arange(half).double() / max(1, half - 1))
    angle = 2 * math.pi * times[:, None] / periods
    spun = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([spun.real, spun.imag], dim=-1)


def attention(layer: nn.Module, q: Tensor, k: Tensor, v: Tensor, asks: list[Part], reads: list[Part]) -> Tensor:
    q_times, k_times = (torch.cat([t for *_, t in parts]) for parts in (asks, reads))
    told = []
    for head, (of_q, of_k, of_v) in enumerate(zip(*(x.chunk(layer.heads, dim=-1) for x in (q, k, v)), strict=True)):
        if isinstance(layer.position, ALiBi):
            scores = of_q @ of_k.T / math.sqrt(of_q.shape[-1]) - distances(layer, head, asks, reads)
        else:
            scores = turned(of_q, q_times) @ turned(of_k, k_times).T / math.sqrt(of_q.shape[-1])
        told.append(torch.softmax(scores, dim=-1) @ of_v if len(of_k) else torch.zeros_like(of_q))
    return linear(torch.cat(told, dim=-1), layer.out_proj.weight, layer.out_proj.bias)


def distances(layer: nn.Module, head: int, asks: list[Part], reads: list[Part]) -> Tensor:
    """In units of 0.2 to 20 s, in equal ratios over the heads; 0 from and to what is exempt."""
    seconds = 0.2 * 100 ** (head / max(1, layer.heads - 1))
    rows = [
        torch.cat([(a[:, None] - b).abs() * (not {asking, read} & layer.exempt) for read, _, b in reads], dim=1)
        for asking, _, a in asks
    ]
    return torch.cat(rows) / seconds


def merged(layer: nn.Module, asks: list[Part], reads: list[Part]) -> Tensor:
    """One set of projections; learned tokens go without the biases by which half of the heads start time-local."""

    def made(projection: nn.Module, parts: list[Part]) -> Tensor:
        return torch.cat(
            [x @ projection.weight.T + (0 if local and name in LEARNED else projection.bias) for name, x, _ in parts]
        )

    local = layer.k_proj.bias is not None
    k = made(layer.k_proj, reads) if local else torch.cat([x for _, x, _ in reads]) @ layer.k_proj.weight.T
    v = linear(torch.cat([x for _, x, _ in reads]), layer.v_proj.weight, layer.v_proj.bias)
    return attention(layer, made(layer.q_proj, asks), k, v, asks, reads)


def mlp(layer: nn.Module, x: Tensor) -> Tensor:
    return layer.fc2(gelu(layer.fc1(x)))


def feed_forward(layer: nn.Module, name: str, x: Tensor) -> Tensor:
    if layer.experts is not None:
        return mlp(layer.experts[name].mlp, norm(layer.experts[name].norm, x))
    return mlp(layer.mlp, norm(layer.norm2, x))


def block(layer: nn.Module, asks: list[Part], reads: list[Part]) -> list[Part]:
    told = merged(layer.attn, *([(n, norm(layer.norm1, x), t) for n, x, t in parts] for parts in (asks, reads)))
    done, at = [], 0
    for name, x, times in asks:
        y = x + told[at : at + len(x)]
        at += len(x)
        done.append((name, y + feed_forward(layer, name, y), times))
    return done


def learned(name: str, values: Tensor, parts: list[Part]) -> Part:
    """In the middle of the time of the clip's tokens; none where it has none."""
    times = torch.cat([t for *_, t in parts])
    count = len(values) if len(times) else 0
    return name, values[:count], times.mean().expand(count) if count else times


def marked(f: nn.Module, parts: list[Part]) -> list[Part]:
    return [(name, x + f.modality_embed[name], times) for name, x, times in parts]


def mean(x: Tensor) -> Tensor:
    return x.mean(dim=0) if len(x) else torch.zeros(x.shape[1]).double()


def two_stream(f: nn.Module, parts: list[Part], meets: Callable[[int], bool]) -> list[Part]:
    for i, layers in enumerate(f.blocks):
        done = []
        for own, other in (parts, parts[::-1]):
            layer, (name, x, times) = layers["both" if "both" in layers else own[0]], own
            reads = [own, other] if meets(i) else [own]
            normed = [norm(layer.norm1[n], y) for n, y, _ in reads]
            k, v = (
                torch.cat([linear(y, side[n].weight, side[n].bias) for (n, *_), y in zip(reads, normed, strict=True)])
                for side in (layer.attn.k_proj, layer.attn.v_proj)
            )
            q = linear(normed[0], layer.attn.q_proj.weight, layer.attn.q_proj.bias)
            y = x + attention(layer.attn, q, k, v, [own], reads)
            done.append((name, y + mlp(layer.mlp, norm(layer.norm2, y)), times))
        parts = done
    return parts


def late(f: nn.Module, parts: list[Part]) -> list[Part]:
    return two_stream(f, parts, lambda _: False)


def cross(f: nn.Module, parts: list[Part]) -> list[Part]:
    return two_stream(f, parts, lambda i: i >= 1)  # from_layer=1


def concat(f: nn.Module, parts: list[Part]) -> list[Part]:
    parts = marked(f, parts)
    for layer in f.blocks:
        parts = block(layer, parts, parts)
    return parts


def experts(f: nn.Module, parts: list[Part]) -> list[Part]:
    assert [block.experts is None for block in f.blocks] == [False, True]  # joint_layers=1
    return concat(f, parts)


def bottleneck(f: nn.Module, parts: list[Part]) -> list[Part]:
    shared = learned("bottleneck", f.bottleneck, parts)
    for i, layers in enumerate(f.blocks):
        if i < 1:  # from_layer=1
            parts = [block(layers[part[0]], [part], [part])[0] for part in parts]
            continue
        beside = [block(layers[part[0]], [part, shared], [part, shared]) for part in parts]
        parts = [own for own, _ in beside]
        votes = [told[1] for own, told in beside if len(own[1])]
        shared = (shared[0], torch.stack(votes).mean(dim=0) if votes else shared[1], shared[2])
    return parts


def gated(f: nn.Module, parts: list[Part]) -> list[Part]:
    for layers, units in zip(f.blocks, f.units, strict=True):
        parts = [block(layers[part[0]], [part], [part])[0] for part in parts]
        done = []
        for own, other in (parts, parts[::-1]):
            unit, (name, x, times) = units[own[0]], own
            y = norm(unit.norms["own"], x)
            r = merged(unit.cross_attn, [(name, y, times)], [(other[0], norm(unit.norms["other"], other[1]), other[2])])
            z = torch.sigmoid(unit.gate(torch.cat([y, r], dim=1))) if len(other[1]) else torch.ones_like(y)
            done.append((name, x + z * torch.tanh(unit.own(y)) + (1 - z) * torch.tanh(unit.other(r)), times))
        parts = done
    return parts


def film(f: nn.Module, parts: list[Part]) -> list[Part]:
    for layers in f.blocks:
        done = []
        for (name, x, times), (_, other, _) in (parts, parts[::-1]):
            layer, size = layers[name], x.shape[1]
            told = layer.modulation(norm(layer.context_norm, mean(other))) if len(other) else torch.zeros(4 * size)
            gamma1, beta1, gamma2, beta2 = told.split(size)
            y = (name, (1 + gamma1) * norm(layer.norm1, x) + beta1, times)
            x = x + merged(layer.attn, [y], [y])
            z = (1 + gamma2) * norm(layer.norm2, x) + beta2
            done.append((name, x + mlp(layer.mlp, z), times))
        parts = done
    return parts


def tensor(f: nn.Module, parts: list[Part]) -> list[Part]:
    for layers in f.blocks:
        parts = [block(layers[part[0]], [part], [part])[0] for part in parts]
    product: Tensor | float = 1.0
    for name, x, _ in parts:
        told = f.factors[name](norm(f.norms[name], mean(x)) if len(x) else mean(x))
        product = product * torch.stack(told.chunk(f.rank))
    assert isinstance(product, Tensor)
    joint = norm(f.norm, product.sum(dim=0))
    return [(name, x + f.out_proj[name](joint), times) for name, x, times in parts]


def perceiver(f: nn.Module, parts: list[Part]) -> list[Part]:
    latents, told = learned("latent", f.latents, parts), marked(f, parts)
    for encode, process in zip(f.encode, f.process, strict=True):
        (latents,) = block(encode, [latents], told)
        (latents,) = block(process, [latents], [latents])
    return [block(f.decode[part[0]], [part], [latents])[0] for part in parts]


def adapter(f: nn.Module, parts: list[Part]) -> list[Part]:
    for layers in f.layers:
        done = []
        for (name, x, times), (other, y, other_times) in (parts, parts[::-1]):
            layer = layers[name]
            _, values, middle = learned("latent", layer.latents, [(other, y, other_times)])
            if len(y):
                reads = [(other, norm(layer.norms["other"], y), other_times)]
                latent = ("latent", values + merged(layer.latent_attn, [("latent", values, middle)], reads), middle)
                read = merged(layer.cross_attn, [(name, norm(layer.norms["own"], x), times)], [latent])
                x = x + layer.gate * layer.adapter[2](gelu(layer.adapter[0](read)))
            done.append((name, x, times))
        parts = done
    return parts


def hierarchical(f: nn.Module, parts: list[Part]) -> list[Part]:
    parts = marked(f, parts)
    first = min([float(times.min()) for *_, times in parts if len(times)], default=0.0)
    windows = [((times - first) / f.window_s).floor().long() for *_, times in parts]
    for fine, coarse, out_proj in zip(f.fine, f.coarse, f.out_proj, strict=True):
        after = [torch.zeros_like(x) for _, x, _ in parts]
        means: list[list] = [[], []]
        for w in torch.cat(windows).unique():
            near = [(n, x[at == w], t[at == w]) for (n, x, t), at in zip(parts, windows, strict=True)]
            for i, (_, x, times) in enumerate(block(fine, near, near)):
                after[i][windows[i] == w] = x
                if len(x):
                    means[i].append((int(w), x.mean(dim=0), times.mean()))
        size, done = f.out_proj[0].in_features, []
        summaries = [
            (
                n,
                torch.stack([x for _, x, _ in m]) if m else torch.zeros(0, size).double(),
                torch.tensor([t for *_, t in m]).double(),
            )
            for (n, *_), m in zip(parts, means, strict=True)
        ]
        for i, (_, told, _) in enumerate(block(coarse, summaries, summaries)):
            for (w, *_), one in zip(means[i], told, strict=True):
                after[i][windows[i] == w] += out_proj(one)
            done.append((parts[i][0], after[i], parts[i][2]))
        parts = done
    return parts


def recurrent(f: nn.Module, parts: list[Part]) -> list[Part]:
    """In the order of time; picture first where both are of one instant."""
    told = torch.cat([norm(f.norm, x) + f.modality_embed[name] for name, x, _ in parts])
    if not len(told):
        return parts
    order = torch.cat([t for *_, t in parts]).argsort(stable=True)
    said = torch.zeros_like(told)
    gru = nn.GRU(told.shape[1], f.gru.hidden_size, f.gru.layers, batch_first=True, bidirectional=True).to(told)
    gru.load_state_dict(f.gru.state_dict())
    said[order] = f.out_proj(gru(told[order][None])[0][0])
    return [(n, x + s, t) for (n, x, t), s in zip(parts, said.split([len(x) for _, x, _ in parts]), strict=True)]
