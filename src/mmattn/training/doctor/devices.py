"""GPUs and what several processes need to train together."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator

from mmattn.errors import MmattnError
from mmattn.process.openmp import cores
from mmattn.text import counted
from mmattn.training.doctor.finding import MachineFinding


def gpus() -> Iterator[MachineFinding]:
    """The GPUs that torch sees, and why it sees none where there is a driver."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            gpu = f"{facts.name}, {facts.total_memory / 2**30:.0f} GB"
            if torch.cuda.is_bf16_supported(including_emulation=False):
                yield MachineFinding("ok", f"gpu {number}", gpu)
            else:
                yield MachineFinding("note", f"gpu {number}", f"{gpu}; no bfloat16: use trainer.precision=16-mixed")
    elif shutil.which("nvidia-smi") and not torch.version.cuda:
        yield MachineFinding(
            "problem", "gpu", f"there is a driver, but torch {torch.__version__} is built without CUDA",
            "pip install --force-reinstall torch torchvision torchaudio "
            "(from the index for your CUDA that pytorch.org names)",
        )  # fmt: skip
    elif shutil.which("nvidia-smi"):
        reason = next((str(one.message).splitlines()[0] for one in caught), "the driver does not answer torch")
        yield MachineFinding(
            "problem", "gpu", reason, "run nvidia-smi; update the driver, or install a torch for its CUDA"
        )
    else:
        yield MachineFinding("note", "gpu", "none: training and tagging run on the CPU")


def processes() -> Iterator[MachineFinding]:
    """The backends with which several processes train together."""
    import torch
    from torch import distributed

    count = torch.cuda.device_count()
    if count > 1 and not distributed.is_nccl_available():
        fix = "install a torch built with NCCL (the CUDA builds for Linux have it)"
        yield MachineFinding("problem", "nccl", f"{counted(count, 'GPU')}, but torch has no NCCL", fix)
    elif distributed.is_nccl_available() and count:
        from torch.cuda import nccl

        yield MachineFinding("ok", "nccl", ".".join(map(str, nccl.version())))
    if not distributed.is_available() or not distributed.is_gloo_available():
        yield MachineFinding(
            "problem", "gloo", "torch has no gloo, so several processes cannot train", "reinstall torch"
        )
    else:
        yield MachineFinding("ok", "gloo", f"{counted(cores(), 'core')} for several processes")


def exchanges() -> Iterator[MachineFinding]:
    """All-reduce over all processes that torchrun or srun started."""
    from mmattn.training.doctor.collective import exchange, place

    own = place()
    assert own is not None
    try:
        found = exchange(own)
    except MmattnError as error:
        fix = "export MASTER_ADDR=HOST of rank 0, NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME=the network that all share"
        yield MachineFinding("problem", "all-reduce", str(error), fix)
        return
    yield MachineFinding("ok", "all-reduce", str(found))
    for name, times in found.slow.items():
        yield MachineFinding(
            "note", "straggler", f"{name} takes {times:.1f} times as long as the median for the same work"
        )
