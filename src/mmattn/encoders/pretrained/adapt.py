"""Three ways to use a ready-made network: as it is, trained on, or with low-rank adapters.

LoRA (Hu et al. 2022) is peft's. It leaves attention whose matrices are called by function, not as layers
(torch.nn.MultiheadAttention), alone: an adapter there would never be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.func import functional_call

from mmattn.errors import UsageError

Mode = Literal["frozen", "finetune", "lora"]


@dataclass(frozen=True)
class Lora:
    """`rank` and `alpha` of every adapter (its output counts alpha / rank), `dropout` on its input.

    `targets`: names of linear layers, as their paths end (q_proj, v_proj); empty: all of them.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


class Adapted(nn.Module):
    """A ready-made network in one of three modes.

    frozen: nothing is trained. finetune: everything. lora: adapters alone. Unless it is fine-tuned, it stays in eval
    mode during training: no dropout of its own, and its batch statistics stay what they were.
    """

    def __init__(self, net: nn.Module, mode: Mode, lora: Mapping[str, Any], example: tuple[Tensor, ...]) -> None:
        """`example`: inputs of the network, of one row."""
        super().__init__()
        if mode not in get_args(Mode):
            raise UsageError(f"mode={mode}: expected one of {', '.join(get_args(Mode))}")
        self.net = net
        self.mode = mode
        if mode == "lora":
            add_adapters(net, Lora(**{**lora, "targets": tuple(lora.get("targets") or ())}))
        if mode == "frozen":
            net.requires_grad_(False)
        else:
            _freeze_unused(net, example)
        self.train(self.training)

    def train(self, mode: bool = True) -> Adapted:
        super().train(mode)
        if self.mode != "finetune":
            self.net.eval()
            for name, module in self.net.named_modules():
                if "lora_dropout" in name:
                    module.train(mode)
        return self

    def forward(self, *inputs: Tensor, real: Bool[Tensor, " N"]) -> Tensor:
        """The network on the `real` rows of its inputs (N, ...), zeros for the others.

        So padding costs nothing, and no statistic over a batch sees it. Without any real row the first one goes
        through all the same: every process of a distributed run has to have gradients for every parameter.
        """
        rows = real.nonzero()[:, 0] if real.any() else torch.zeros(1, dtype=torch.long, device=real.device)
        values = self.net(*(given[rows] for given in inputs))
        return values.new_zeros(len(real), *values.shape[1:]).index_copy(0, rows, values)


def add_adapters(net: nn.Module, lora: Lora) -> None:
    """To every linear layer that `lora` means; the rest is frozen. Raises UsageError."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UsageError("mode=lora needs peft: pip install 'mmattn[encoders]'") from None
    called_by_function = tuple(
        f"{name}." for name, module in net.named_modules() if isinstance(module, nn.MultiheadAttention)
    )
    layers = [
        name
        for name, module in net.named_modules()
        if (isinstance(module, nn.Linear) or _is_conv1d(module)) and not name.startswith(called_by_function or ("\0",))
    ]
    chosen = [name for name in layers if not lora.targets or name.endswith(lora.targets)]
    if not chosen:
        asked = f"lora.targets={list(lora.targets)} names none of its" if lora.targets else "it has no"
        raise UsageError(f"mode=lora: {asked} linear layers; use mode=finetune or mode=frozen")
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=chosen,
        fan_in_fan_out=any(map(_is_conv1d, net.modules())),
    )
    inject_adapter_in_model(settings, net)  # freezes the rest


def _is_conv1d(module: nn.Module) -> bool:
    """GPT-2's linear layer, whose matrix lies the other way round."""
    return type(module).__name__ == "Conv1D"


def _freeze_unused(net: nn.Module, example: tuple[Tensor, ...]) -> None:
    """No gradient for parameters that the output does not depend on, as of a head beyond the features that are taken.

    A distributed run would wait for their gradients for ever. Found on tensors without data, which costs nothing.
    """
    training = net.training
    net.eval()
    like = {name: torch.empty_like(value, device="meta") for name, value in _tensors(net)}
    given = {name: like[name].requires_grad_(value.requires_grad) for name, value in net.named_parameters()}
    with torch.enable_grad():
        try:
            output = functional_call(net, like, tuple(each.to("meta") for each in example))
        except (RuntimeError, NotImplementedError):  # it reads values of its input
            given = dict(net.named_parameters())
            output = net(*example)
    net.train(training)
    reached = _leaves(output)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and id(given[name]) in reached)


def on_meta(net: nn.Module, *example: Tensor) -> None:
    """Run `net` on tensors without data, for what it raises about itself."""
    like = {name: torch.empty_like(value, device="meta") for name, value in _tensors(net)}
    with torch.no_grad(), suppress(RuntimeError, NotImplementedError):  # it reads values of its input
        functional_call(net, like, tuple(each.to("meta") for each in example))


def _tensors(net: nn.Module) -> list[tuple[str, Tensor]]:
    return [*net.named_parameters(), *net.named_buffers()]


def _leaves(output: Tensor) -> set[int]:
    """The ids of the tensors that a backward pass from `output` would reach."""
    steps, seen, leaves = [output.grad_fn], set(), set()
    while steps:
        step = steps.pop()
        if step is not None and step not in seen:
            seen.add(step)
            leaves.add(id(getattr(step, "variable", None)))
            steps += [earlier for earlier, _ in step.next_functions]
    return leaves
