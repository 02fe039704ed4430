"""A bidirectional GRU over rows of different lengths, without packing.

Packed sequences need their lengths on the CPU, which would synchronise with the device. Padding stands after the real
tokens: the forward direction reads it last; the backward direction runs over each row's real tokens in reverse, which a
gather puts first. States at padding are never read.

Shape legend: B clips, L tokens, X channels, S numbers of the state of one direction.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class GRU(nn.Module):
    """Parameters have the names, shapes and initial values of torch.nn.GRU with `bidirectional=True`."""

    def __init__(self, inputs: int, state: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden_size = state
        self.layers = layers
        self.dropout = dropout
        for name, weight in nn.GRU(inputs, state, layers, bidirectional=True).named_parameters():
            self.register_parameter(name, weight)

    def forward(
        self, x: Float[Tensor, "B L X"], counts: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B L 2S"], Float[Tensor, "2 B S"]]:
        """The top layer's states at the first `counts` (1 or more) tokens of a row, 0 beyond, and the final states.

        The final states are those of the forward direction, then of the backward one.
        """
        place = torch.arange(x.shape[1], device=x.device)
        real = (place < counts[:, None])[..., None]
        reverse = torch.where(real[..., 0], counts[:, None] - 1 - place, place)[..., None]
        last = (counts - 1)[:, None, None]
        ends: list[Tensor] = []
        for layer in range(self.layers):
            if layer and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            ahead = self._direction(x, layer, "")
            back = self._direction(x.take_along_dim(reverse, dim=1), layer, "_reverse")
            ends = [way.take_along_dim(last, dim=1)[:, 0] for way in (ahead, back)]
            x = torch.where(real, torch.cat([ahead, back.take_along_dim(reverse, dim=1)], dim=2), 0.0)
        return x, torch.stack(ends)

    def _direction(self, x: Float[Tensor, "B L X"], layer: int, suffix: str) -> Float[Tensor, "B L S"]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self, f"{name}_l{layer}{suffix}") for name in names]
        x = x.to(weights[0].dtype)
        return torch.ops.mmattn.gru(x, *weights) if torch.compiler.is_compiling() else _states(x, *weights)


def _states(x: Tensor, *weights: Tensor) -> Float[Tensor, "B L S"]:
    first = x.new_zeros(1, len(x), weights[1].shape[1])
    with warnings.catch_warnings():  # cuDNN wants all weights in one buffer; it copies these few
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        return torch.gru(x, first, list(weights), True, 1, 0.0, torch.is_grad_enabled(), False, True)[0]


# The same as a custom operator: torch.compile would unroll every step.


@torch.library.custom_op("mmattn::gru", mutates_args=())
def _gru(x: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor) -> Tensor:
    return _states(x, w_in, w_state, b_in, b_state).contiguous()


@_gru.register_fake
def _(x: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], w_state.shape[1])


@torch.library.custom_op("mmattn::gru_backward", mutates_args=())
def _gru_backward(
    slope: Tensor, states: Tensor, x: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Backpropagation through time, by hand: an operator runs below autograd. All gates are recomputed at once."""
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
    of_x, of_state = nn.functional.linear(x, w_in, b_in), nn.functional.linear(before, w_state, b_state)
    r, z = torch.sigmoid((of_x + of_state)[..., : 2 * states.shape[2]]).chunk(2, dim=-1)
    state_n = of_state[..., 2 * states.shape[2] :]
    n = torch.tanh(of_x[..., 2 * states.shape[2] :] + r * state_n)
    d_of_x, d_of_state, d_state = torch.empty_like(of_x), torch.empty_like(of_state), torch.zeros_like(before[:, 0])
    for t in range(x.shape[1] - 1, -1, -1):  # h = (1 - z) n + z h'
        d_state = d_state + slope[:, t]
        d_n = d_state * (1 - z[:, t]) * (1 - n[:, t] ** 2)
        d_z = d_state * (before[:, t] - n[:, t]) * z[:, t] * (1 - z[:, t])
        d_r = d_n * state_n[:, t] * r[:, t] * (1 - r[:, t])
        d_of_x[:, t] = torch.cat([d_r, d_z, d_n], dim=1)
        d_of_state[:, t] = torch.cat([d_r, d_z, d_n * r[:, t]], dim=1)
        d_state = d_state * z[:, t] + d_of_state[:, t] @ w_state
    flat_x, flat_state = d_of_x.flatten(0, 1), d_of_state.flatten(0, 1)
    return (
        d_of_x @ w_in,
        flat_x.mT @ x.flatten(0, 1),
        flat_state.mT @ before.flatten(0, 1),
        flat_x.sum(dim=0),
        flat_state.sum(dim=0),
    )


@_gru_backward.register_fake
def _(slope: Tensor, states: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in given)


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs)


def _gradients(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
    return torch.ops.mmattn.gru_backward(slope, *ctx.saved_tensors)


_gru.register_autograd(_gradients, setup_context=_setup)
