"""What a user would pick instead of each mechanism, as functions of q, k and v of the same shape (B, H, L, D).

Projections of modules that have their own are taken out: every contender gets the same q, k and v. A package that is
not installed leaves its row out: pip install --no-deps -r scripts/benchmarks/attention_peers.txt
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from attention_cases import DIM, HEADS, RATE, make
from torch import Tensor, nn
from torch.nn.functional import elu, normalize, scaled_dot_product_attention

from mmattn.attention.interface import Attention

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
WINDOW = 64  # tokens to either side


def pairs(length: int, device: str) -> list[tuple[str, str, Attention, Callable[[], Attend]]]:
    """Mechanism, what a user would pick instead, and both, with the same settings where the other has them."""

    def ours(name: str, **settings: object) -> Attention:
        return make(name, device, **settings)

    additive = ours("additive")
    window = {"pattern__past": WINDOW, "pattern__future": WINDOW}
    seconds = {"pattern__past_s": WINDOW / RATE, "pattern__future_s": WINDOW / RATE}
    blocks = {"pattern__block": 64, "pattern__random": 3, "pattern__global_tokens": 128}
    return [
        ("dense", "PyTorch SDPA", ours("dense"), lambda: scaled_dot_product_attention),
        ("dense", "x-transformers", ours("dense"), x_transformers),
        ("cosine", "x-transformers", ours("cosine"), lambda: cosine(0.1)),
        ("gaussian", "x-transformers", ours("gaussian"), lambda: x_transformers(l2_distance=True)),
        ("sigmoid", "x-transformers", ours("sigmoid"), lambda: x_transformers(sigmoid=True)),
        ("sparsemax", "entmax", ours("sparsemax"), lambda: entmax("sparsemax")),
        ("entmax", "entmax", ours("entmax"), lambda: entmax("entmax15")),
        ("additive", "plain PyTorch", additive, lambda: plain_additive(cast(Tensor, additive.score))),
        ("time_window", "local-attention", ours("time_window", **seconds), local_attention),
        ("sliding", "local-attention", ours("sliding", **window), local_attention),
        ("sliding", "transformers Longformer", ours("sliding", **window), longformer),
        ("bigbird", "transformers BigBird", ours("bigbird", **blocks), lambda: big_bird(length, 64, 3)),
        ("lsh", "transformers Reformer", ours("lsh"), lambda: reformer(length, 32, 4)),
        ("linear", "performer-pytorch", ours("linear"), plain_linear),
        ("performer", "performer-pytorch", ours("performer", redraw="false"), lambda: performer(128)),
        ("linformer", "linformer", ours("linformer"), lambda: linformer(length, 64)),
        ("nystrom", "nystrom-attention", ours("nystrom"), lambda: nystrom(64)),
    ]


class _Given(nn.Module):
    """In place of a projection: what it would have made, however its input is laid out."""

    value: Tensor

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed

    def forward(self, _: Tensor) -> Tensor:
        return (self.value.transpose(0, 1) if self.transposed else self.value) * 1  # some work in place


def _tokens(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def x_transformers(**options: Any) -> Attend:
    from x_transformers.attend import Attend as XAttend

    module = XAttend(flash=False, **options)
    return lambda q, k, v: module(q, k, v)[0]


def cosine(temperature: float) -> Attend:
    from x_transformers.attend import Attend as XAttend

    module = XAttend(flash=False, scale=1 / temperature, qk_norm=True)
    return lambda q, k, v: module(normalize(q, dim=-1), normalize(k, dim=-1), v)[0]


def entmax(name: str) -> Attend:
    import entmax as package

    normalise = getattr(package, name)
    return lambda q, k, v: normalise(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v


def plain_additive(w: Tensor) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if k.shape[2] > 2048:
            raise MemoryError("heads x channels x length^2 numbers, several times over")
        scores = (torch.tanh(q[:, :, :, None] + k[:, :, None]) * w[:, None, None]).sum(-1)
        return scores.softmax(-1) @ v

    return attend


def local_attention() -> Attend:
    from local_attention import LocalAttention

    module = LocalAttention(WINDOW, look_backward=1, look_forward=1, exact_windowsize=True, use_rotary_pos_emb=False)
    return lambda q, k, v: module(q, k, v)


def plain_linear() -> Attend:
    from performer_pytorch.performer_pytorch import linear_attention

    return lambda q, k, v: linear_attention(elu(q) + 1, elu(k) + 1, v)


def performer(features: int) -> Attend:
    from performer_pytorch import FastAttention

    return FastAttention(DIM, features)


def linformer(length: int, rank: int) -> Attend:
    from linformer import LinformerSelfAttention

    module = LinformerSelfAttention(HEADS * DIM, length, k=rank, heads=HEADS)
    module.to_q, module.to_k, module.to_v, module.to_out = _Given(), _Given(), _Given(), nn.Identity()
    return _with(module, {"q": module.to_q, "k": module.to_k, "v": module.to_v}, lambda x: module(x))


def nystrom(landmarks: int) -> Attend:
    from nystrom_attention import NystromAttention

    module = NystromAttention(3 * HEADS * DIM, DIM, HEADS, landmarks, residual=False)
    module.to_qkv, module.to_out = nn.Identity(), nn.Identity()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (
            module(torch.cat([_tokens(q), _tokens(k), _tokens(v)], dim=-1)).unflatten(2, (HEADS, DIM)).transpose(1, 2)
        )

    return attend


def longformer() -> Attend:
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = LongformerConfig(
        hidden_size=HEADS * DIM,
        num_attention_heads=HEADS,
        attention_window=[2 * WINDOW],
        attention_probs_dropout_prob=0.0,
    )
    module: Any = LongformerSelfAttention(config, 0)
    module.query, module.key, module.value = _Given(True), _Given(True), _Given(True)

    def run(x: Tensor) -> Tensor:
        nothing = torch.zeros(x.shape[:2], device=x.device)
        masked = nothing.bool()
        return module(x, nothing, masked, masked, False)[0]

    return _with(module, {"q": module.query, "k": module.key, "v": module.value}, run)


def big_bird(length: int, block: int, random_blocks: int) -> Attend:
    from transformers import BigBirdConfig
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

    config = BigBirdConfig(
        hidden_size=HEADS * DIM,
        num_attention_heads=HEADS,
        block_size=block,
        num_random_blocks=random_blocks,
        max_position_embeddings=length,
    )
    module: Any = BigBirdBlockSparseAttention(config, seed=0)
    module.query, module.key, module.value = _Given(), _Given(), _Given()

    def run(x: Tensor) -> Tensor:
        masks = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(x.shape[:2], device=x.device), block)
        blocked, band, rows, columns = masks
        return module(x, band, rows, columns, blocked, blocked)[0]

    return _with(module, {"q": module.query, "k": module.key, "v": module.value}, run)


def reformer(length: int, bucket: int, rounds: int) -> Attend:
    """It has one vector for query and key: q."""
    from transformers import ReformerConfig
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention

    config = ReformerConfig(
        hidden_size=HEADS * DIM,
        num_attention_heads=HEADS,
        attention_head_size=DIM,
        lsh_attn_chunk_length=bucket,
        num_hashes=rounds,
        num_buckets=max(2, length // bucket // 2 * 2),
        max_position_embeddings=length,
        lsh_attention_probs_dropout_prob=0.0,
        hash_seed=0,
        is_decoder=False,
    )
    module: Any = LSHSelfAttention(config)
    module.query_key, module.value = _Given(), _Given()
    return _with(module, {"q": module.query_key, "v": module.value}, lambda x: module(x).hidden_states)


def _with(module: nn.Module, slots: dict[str, Any], run: Callable[[Tensor], Tensor]) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given = {"q": _tokens(q), "k": _tokens(k), "v": _tokens(v)}
        for name, slot in slots.items():
            slot.value = given[name]
        return run(given["q"]).unflatten(2, (HEADS, -1)).transpose(1, 2)

    return attend
