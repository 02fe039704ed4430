"""Scores and normalisers against their definitions in float64, alone and with patterns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.attention import ExactAttention
from mmattn.attention.exact.backends import explicit
from mmattn.attention.interface import Attention, Geometry
from mmattn.attention.normalisers import entmax as normalisers
from mmattn.attention.normalisers.entmax import Entmax, entmax
from mmattn.attention.normalisers.sigmoid import Sigmoid
from mmattn.attention.patterns.time_window import TimeWindow
from mmattn.attention.scores.cosine import Cosine
from mmattn.attention.scores.gaussian import Gaussian
from mmattn.errors import UsageError

B, H, LQ, LK, D = 2, 2, 5, 9, 6
KEEP = torch.ones(B, LK, dtype=torch.bool)
KEEP[0, 3], KEEP[1, 5:] = False, False
TIMES = torch.arange(LQ).expand(B, -1) / 4, torch.arange(LK).expand(B, -1) / 8


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (LQ, LK, LK))
    return q, k, v


def _attend(attention: Attention, keep: Tensor = KEEP) -> tuple[Tensor, Tensor]:
    result = attention.double()(*_inputs(), Geometry(None, TIMES[0]), Geometry(keep, TIMES[1]), frozenset({"weights"}))
    torch.testing.assert_close(result.out, result.stats["weights"] @ _inputs()[2], rtol=0, atol=1e-12)
    return result.out, result.stats["weights"]


def _softmax(score, keep: Tensor = KEEP) -> Tensor:
    """softmax over real keys of score(q_i, k_j, head)."""
    q, k, _ = _inputs()
    weights = torch.zeros(B, H, LQ, LK, dtype=torch.float64)
    for b in range(B):
        for h in range(H):
            for i in range(LQ):
                terms = {j: math.exp(score(q[b, h, i], k[b, h, j], h)) for j in range(LK) if keep[b, j]}
                for j, term in terms.items():
                    weights[b, h, i, j] = term / sum(terms.values())
    return weights


@pytest.mark.parametrize("learned", [False, True])
def test_cosine_scores(learned: bool) -> None:
    attention = ExactAttention(H, D, score=lambda heads, dim: Cosine(heads, dim, 0.1, learned)).requires_grad_(False)
    temperature = [0.1, 0.1]
    if learned:
        attention.score.get_parameter("logit_scale").copy_(torch.tensor([3.0, 8.0])[:, None, None])
        temperature = [math.exp(-3.0), 0.01]  # no less
    expected = _softmax(lambda q, k, h: float(torch.cosine_similarity(q, k, dim=0)) / temperature[h])
    torch.testing.assert_close(_attend(attention)[1], expected, rtol=0, atol=1e-12)


def test_gaussian_scores() -> None:
    expected = _softmax(lambda q, k, _: -float((q - k).square().sum()) / (2 * math.sqrt(D)))
    torch.testing.assert_close(_attend(ExactAttention(H, D, score=Gaussian))[1], expected, rtol=0, atol=1e-12)


def test_gaussian_scores_are_whole_for_normalisers_that_see_a_shift() -> None:
    attention = ExactAttention(H, D, score=Gaussian, normaliser=lambda heads, dim: Sigmoid(heads, dim, learned=False))
    q, k, _ = _inputs()
    scores = -torch.cdist(q, k).square() / (2 * math.sqrt(D))
    expected = torch.sigmoid(scores - KEEP.sum(-1)[:, None, None, None].double().log()) * KEEP[:, None, None]
    torch.testing.assert_close(_attend(attention)[1], expected, rtol=0, atol=1e-12)


def test_sigmoid_weights_do_not_compete() -> None:
    attention = ExactAttention(H, D, normaliser=lambda heads, dim: Sigmoid(heads, dim, learned=True)).requires_grad_(
        False
    )
    attention.normaliser.bias.copy_(torch.tensor([0.5, -1.0])[:, None, None])
    weights = _attend(attention)[1]
    q, k, _ = _inputs()
    for b in range(B):
        for h, bias in enumerate((0.5, -1.0)):
            for i in range(LQ):
                for j in range(LK):
                    score = float(q[b, h, i] @ k[b, h, j]) / math.sqrt(D) - math.log(int(KEEP[b].sum())) + bias
                    expected = 1 / (1 + math.exp(-score)) if KEEP[b, j] else 0.0
                    assert abs(float(weights[b, h, i, j]) - expected) < 1e-12


def _by_sorting(z: Tensor) -> Tensor:
    """Sparsemax by Martins & Astudillo 2016, algorithm 1."""
    ordered = z.sort(descending=True).values
    sums = ordered.cumsum(0)
    support = max(n for n in range(1, len(z) + 1) if 1 + n * ordered[n - 1] > sums[n - 1])
    return (z - (sums[support - 1] - 1) / support).clamp(min=0)


def _by_bisection(z: Tensor, alpha: float) -> Tensor:
    """Peters et al. 2019, algorithm 1, until nothing changes."""
    z = z * (alpha - 1)
    low, high = float(z.max()) - 1, float(z.max()) - len(z) ** (1 - alpha)
    for _ in range(200):
        tau = (low + high) / 2
        p = (z - tau).clamp(min=0) ** (1 / (alpha - 1))
        low, high = (tau, high) if p.sum() >= 1 else (low, tau)
    return p


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("alpha", [1.01, 1.3, 1.5, 1.9, 2.0])
def test_entmax_finds_the_threshold(alpha: float, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 40):
        z = torch.randn(3, n, generator=generator, dtype=torch.float64) * size
        z[0] = z[0, 0]  # ties
        p = entmax(z, alpha)
        expected = torch.stack([_by_sorting(row) if alpha == 2 else _by_bisection(row, alpha) for row in z])
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(p.sum(-1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_entmax_agrees_with_its_authors_package() -> None:
    package = pytest.importorskip("entmax")
    z = 3 * torch.randn(50, 200, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(entmax(z, 2.0), package.sparsemax(z), rtol=0, atol=1e-6)
    torch.testing.assert_close(entmax(z, 1.5), package.entmax15(z), rtol=0, atol=1e-6)


def test_entmax_near_one_is_near_softmax() -> None:
    z = torch.randn(4, 9, dtype=torch.float64)
    torch.testing.assert_close(entmax(z, 1.0005), torch.softmax(z, -1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
@pytest.mark.parametrize("tile", [1, 1 << 18], ids=["row by row", "at once"])
def test_entmax_has_the_right_gradients_also_of_alpha(alpha: float, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalisers, "TILE_ELEMENTS", tile)
    z = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: entmax(z, alpha), (z,))
    if alpha < 2:
        alphas = torch.tensor([[[alpha]], [[alpha + 0.1]]], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(entmax, (z, alphas))


@pytest.mark.parametrize("learned", [False, True])
def test_entmax_attends_with_each_heads_alpha(learned: bool) -> None:
    attention = ExactAttention(H, D, normaliser=lambda heads, dim: Entmax(heads, dim, 1.5, learned)).requires_grad_(
        False
    )
    alphas = [1.5, 1.5]
    if learned:
        alphas = [1.25, 1.75]
        attention.normaliser.logit.copy_(torch.tensor([0.25, 0.75]).logit()[:, None, None])
    weights = _attend(attention)[1]
    q, k, _ = _inputs()
    for b in range(B):
        for h in range(H):
            for i in range(LQ):
                scores = k[b, h][KEEP[b]] @ q[b, h, i] / math.sqrt(D)
                expected = _by_bisection(scores, alphas[h])
                torch.testing.assert_close(weights[b, h, i][KEEP[b]], expected, rtol=0, atol=1e-7)
        assert not weights[b][..., ~KEEP[b]].any()


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha}"):
        Entmax(H, D, alpha, learned=False)


@pytest.mark.parametrize(
    "normaliser",
    [lambda heads, dim: Sigmoid(heads, dim, True), lambda heads, dim: Entmax(heads, dim, 1.5, True)],
    ids=["sigmoid", "entmax"],
)
def test_normalisers_work_on_the_pairs_of_a_pattern(normaliser) -> None:
    """A time window is the dense matrix of the pairs within it: the number of keys, the threshold, all are of those."""
    attention = ExactAttention(
        H, D, lambda heads, dim: TimeWindow(heads, dim, 0.2, 0.3), normaliser=normaliser
    ).double()
    q, k, v = _inputs()
    out, _ = _attend(attention)
    gap = TIMES[1][:, None] - TIMES[0][..., None]
    inside = ((gap >= -0.2) & (gap <= 0.3) & KEEP[:, None])[:, None]
    weights = attention.normaliser(q @ k.mT / math.sqrt(D), inside)
    torch.testing.assert_close(out, weights @ v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "entmax"])
def test_in_chunks_nothing_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = ExactAttention(
        H, D, normaliser=lambda h, d: Sigmoid(h, d, True) if name == "sigmoid" else Entmax(h, d, 1.5, True)
    ).double()

    def run() -> list[Tensor]:
        leaves = [x.requires_grad_() for x in _inputs()]
        result = attention(*leaves, Geometry(), Geometry(KEEP, TIMES[1]), frozenset({"mass", "entropy"}))
        loss = result.out.square().sum() + result.stats["entropy"].sum()
        return [result.out, *torch.autograd.grad(loss, [*leaves, *attention.parameters()])]

    whole = run()
    monkeypatch.setattr(explicit, "CHUNK_ELEMENTS", B * H * LK)
    for ours, theirs in zip(run(), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_from_a_config_a_wrong_alpha_is_a_usage_error() -> None:
    from mmattn.config.compose import build, compose, read_choice

    with pytest.raises(UsageError, match=r"alpha=3\.0"):
        compose("train", ["attention=entmax", "attention.normaliser.alpha=3.0"])
    config = read_choice("attention", "entmax")
    with pytest.raises((UsageError, ValueError), match=r"alpha=3\.0"):
        build({**config, "normaliser": {**config["normaliser"], "alpha": 3.0}})(H, D)
