"""Three ways to use a pretrained network: frozen, fine-tuned, or with low-rank adapters.

LoRA (Hu et al. 2022) is peft's. It skips torch.nn.MultiheadAttention, which calls its matrices by function and not as
layers: an adapter there would never run.
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
    """`rank` and `alpha` of every adapter (its output is scaled by alpha / rank), `dropout` on its input.

    `targets`: the ends of the names of linear layers (q_proj, v_proj); empty: all linear layers.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, settings: Mapping[str, Any] | None) -> Lora:
        """From the config key `lora`."""
        settings = settings or {}
        return cls(**{**settings, "targets": tuple(settings.get("targets") or ())})


class Adapted(nn.Module):
    """A pretrained network in one of three modes.

    frozen: nothing is trained. finetune: everything is. lora: only the adapters are. Unless it is fine-tuned, the
    network stays in eval mode during training: no dropout of its own, and its batch statistics do not change.
    """

    def __init__(self, net: nn.Module, mode: Mode, lora: Mapping[str, Any] | None, example: tuple[Tensor, ...]) -> None:
        """`example`: inputs of the network, of one row."""
        super().__init__()
        if mode not in get_args(Mode):
            raise UsageError(f"mode={mode}: expected one of {', '.join(get_args(Mode))}")
        self.net = net
        self.mode = mode
        if mode == "lora":
            add_adapters(net, Lora.from_config(lora))
        if mode == "frozen":
            net.requires_grad_(False)
        else:
            _freeze_unused(net, example)
        self.train(self.training)

    def train(self, mode: bool = True) -> Adapted:
        """Set the training mode; see the class for what stays in eval mode."""
        super().train(mode)
        if self.mode != "finetune":
            train_adapters(self.net, mode)
        return self

    def forward(self, *inputs: Tensor, keep: Bool[Tensor, " N"]) -> Tensor:
        """The network on the rows of its inputs (N, ...) that are real (`keep`), zeros for the others.

        So padding costs nothing and enters no batch statistics. If no row is real, the first one is run all the same:
        every process of a distributed run must have gradients for every parameter.
        """
        rows = keep.nonzero()[:, 0] if keep.any() else torch.zeros(1, dtype=torch.long, device=keep.device)
        values = self.net(*(each[rows] for each in inputs))
        return values.new_zeros(len(keep), *values.shape[1:]).index_copy(0, rows, values)


def train_adapters(net: nn.Module, mode: bool) -> None:
    """Put `net` into eval mode, but the dropout of its LoRA adapters into training mode if `mode`."""
    net.eval()
    for name, module in net.named_modules():
        if "lora_dropout" in name:
            module.train(mode)


def add_adapters(net: nn.Module, lora: Lora) -> None:
    """Add an adapter to every linear layer that `lora` names, and freeze the rest. Raises UsageError."""
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
        reason = f"lora.targets={list(lora.targets)} matches none of its" if lora.targets else "the network has no"
        raise UsageError(f"mode=lora: {reason} linear layers; use mode=finetune or mode=frozen")
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=chosen,
        fan_in_fan_out=any(map(_is_conv1d, net.modules())),
    )
    inject_adapter_in_model(settings, net)  # freezes the rest


def _is_conv1d(module: nn.Module) -> bool:
    """Whether this is GPT-2's linear layer, whose weight matrix is transposed."""
    return type(module).__name__ == "Conv1D"


def _freeze_unused(net: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Freeze parameters that the output does not depend on, such as a head after the features that are used.

    A distributed run would wait for their gradients forever. Meta tensors find them at no cost.
    """
    training = net.training
    net.eval()
    meta = _meta_tensors(net)
    parameters = {name: meta[name].requires_grad_(value.requires_grad) for name, value in net.named_parameters()}
    with torch.enable_grad():
        try:
            output = functional_call(net, meta, tuple(each.to("meta") for each in example))
        except (RuntimeError, NotImplementedError):  # its forward depends on values
            parameters = {name: _real(value) for name, value in net.named_parameters()}
            output = functional_call(net, parameters, example)
    net.train(training)
    reached = _leaves(output)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameters[name]) in reached)


def _real(parameter: nn.Parameter) -> Tensor:
    """The parameter, or zeros in place of one that was built without its weights."""
    if not parameter.is_meta:
        return parameter
    return torch.zeros_like(parameter, device="cpu", requires_grad=parameter.requires_grad)


def run_on_meta(net: nn.Module, *example: Tensor) -> None:
    """Run `net` on meta tensors, for the UsageErrors that its forward raises."""
    with torch.no_grad(), suppress(RuntimeError, NotImplementedError):  # its forward depends on values
        functional_call(net, _meta_tensors(net), tuple(each.to("meta") for each in example))


def _meta_tensors(net: nn.Module) -> dict[str, Tensor]:
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return {name: torch.empty_like(value, device="meta") for name, value in tensors}


def _leaves(output: Tensor) -> set[int]:
    """The ids of the tensors that a backward pass from `output` reaches."""
    stack, seen, leaves = [output.grad_fn], set(), set()
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            leaves.add(id(getattr(node, "variable", None)))
            stack += [earlier for earlier, _ in node.next_functions]
    return leaves
