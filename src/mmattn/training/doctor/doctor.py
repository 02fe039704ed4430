"""`mmattn doctor`: is this machine fit to train and to predict? Each problem with its fix. Nothing is changed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from mmattn.config.compose import Config
from mmattn.errors import MmattnError
from mmattn.process.openmp import cores
from mmattn.text import counted

Level = Literal["ok", "note", "problem"]
MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}
OPEN_FILES = 1024


@dataclass(frozen=True)
class MachineFinding:
    """`fix`: what to do about a problem, as a command where there is one."""

    level: Level
    what: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8}{self.what:12}{self.found}" + (f"\n        fix: {self.fix}" if self.fix else "")


def doctor(config: Config) -> str:
    """What was found, a line each. Raises MmattnError, after printing it, when there is a problem.

    Of several processes (torchrun, srun) all exchange, and the first looks at the rest and tells of all.
    """
    from mmattn.training.doctor.collective import place

    folder, own = Path(str(config["folder"])), place()
    between = list(exchanges()) if own else []
    if own and own.rank:
        return ""
    checks: tuple[Callable[[], Iterator[MachineFinding]], ...] = (
        lambda: iter(between),
        *(packages, builds, codecs, decoders, gpus, processes, wandb, slurm),
        lambda: disk(folder, config["disk_gb"]),
        lambda: shared_memory(Path("/dev/shm"), config["shared_gb"]),
        open_files,
    )
    found = [finding for check in checks for finding in check()]
    text = "\n".join(map(str, found))
    problems = [finding.what for finding in found if finding.level == "problem"]
    if problems:
        print(text)
        raise MmattnError(f"doctor: {len(problems)} to fix: {', '.join(problems)}")
    return text


def packages() -> Iterator[MachineFinding]:
    """What mmattn asks for is there in the right version. Extras that are not there are nobody's fault."""
    from packaging.requirements import Requirement

    wrong = []
    for text in requires("mmattn") or []:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        if (fault := _fault(needed.name, str(needed.specifier), needed.specifier.contains)) is not None:
            wrong.append(
                MachineFinding("problem", needed.name, fault, f"pip install '{needed.name}{needed.specifier}'")
            )
    yield from wrong
    for name, versions in MALICIOUS.items():
        if (own := _version(name)) in versions:
            fix = f"pip install '{name}>=2.6.4', then change the passwords and keys that this machine knew"
            yield MachineFinding("problem", name, f"{own} was a malicious release", fix)
    python = ".".join(map(str, sys.version_info[:3]))
    if not wrong:
        names = ("torch", "lightning", "hydra-core", "av", "wandb")
        yield MachineFinding("ok", "packages", ", ".join([f"python {python}", *(f"{n} {_version(n)}" for n in names)]))


def _fault(name: str, wanted: str, fits: Callable[..., bool]) -> str | None:
    own = _version(name)
    if own is None:
        return "not installed"
    return None if fits(own, prereleases=True) else f"{own}, but mmattn works with {wanted}"


def builds() -> Iterator[MachineFinding]:
    """torch, torchvision and torchaudio are built for each other: torch 2.N goes with torchvision 0.(N+15)."""
    torch_version = _version("torch") or "0.0"
    major, minor = (int(part) for part in torch_version.split(".")[:2])
    wanted = {"torchvision": f"0.{minor + 15}", "torchaudio": f"{major}.{minor}"}
    for name, family in wanted.items():
        own = _version(name)
        if name == "torchaudio" and minor > 11:  # its releases have stopped keeping step: it has to load
            fits = own is not None and _loads(name)
        else:
            fits = own is not None and ".".join(own.split(".")[:2]) == family
        if not fits:
            fix = f"pip install --upgrade torch=={torch_version.partition('+')[0]} torchvision torchaudio"
            yield MachineFinding("problem", name, f"{own} was not built for torch {torch_version}", fix)


def _loads(name: str) -> bool:
    code = f"import {name}"
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=120).returncode == 0


def codecs() -> Iterator[MachineFinding]:
    from mmattn.media.open.codecs import ffmpeg_version, missing_codecs

    read, written = missing_codecs()
    for names, does in ((read, "decode"), (written, "encode")):
        if names:
            fix = "pip install --force-reinstall --only-binary :all: av"
            yield MachineFinding("problem", "codecs", f"cannot {does} {', '.join(names)}", fix)
    if not read and not written:
        yield MachineFinding("ok", "codecs", f"libavcodec {ffmpeg_version()} reads and writes all the usual ones")


def decoders() -> Iterator[MachineFinding]:
    """What a decoder that a file took over may still do, by a decoder's own trying."""
    from mmattn.media import IsolatedReader

    with IsolatedReader() as reader:
        told = reader.sandbox()
    held = f"held by {', '.join(told.layers) or 'limits on memory and time alone'}"
    if free := [what for what, refused in told.refused.items() if not refused]:
        yield MachineFinding("note", "sandbox", f"this system lets a decoder {', '.join(free)}; {held}")
    else:
        yield MachineFinding("ok", "sandbox", f"a decoder cannot {', '.join(told.refused)}; {held}")


def gpus() -> Iterator[MachineFinding]:
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            said = f"{facts.name}, {facts.total_memory / 2**30:.0f} GB"
            if torch.cuda.is_bf16_supported(including_emulation=False):
                yield MachineFinding("ok", f"gpu {number}", said)
            else:
                yield MachineFinding("note", f"gpu {number}", f"{said}; no bfloat16: use trainer.precision=16-mixed")
    elif shutil.which("nvidia-smi") and not torch.version.cuda:
        yield MachineFinding(
            "problem", "gpu", f"there is a driver, but torch {torch.__version__} is built without CUDA",
            "pip install --force-reinstall torch torchvision torchaudio "
            "(from the index for your CUDA that pytorch.org names)",
        )  # fmt: skip
    elif shutil.which("nvidia-smi"):
        said = next((str(one.message).splitlines()[0] for one in caught), "the driver does not answer torch")
        yield MachineFinding(
            "problem", "gpu", said, "run nvidia-smi; update the driver, or install a torch for its CUDA"
        )
    else:
        yield MachineFinding("note", "gpu", "none: training and tagging run on the processor")


def processes() -> Iterator[MachineFinding]:
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
    """Of all processes that torchrun or srun started."""
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


def wandb() -> Iterator[MachineFinding]:
    """No connection is made."""
    mode = os.environ.get("WANDB_MODE")
    if mode == "disabled":
        yield MachineFinding("note", "wandb", "disabled by WANDB_MODE; metrics are in each run's metrics.jsonl")
        return
    from mmattn.training.logging.wandb_run import has_credentials

    if has_credentials():
        said = "logged in; logger.online=true uploads" + (f", but WANDB_MODE={mode}" if mode == "offline" else "")
        yield MachineFinding("ok", "wandb", said)
    else:
        yield MachineFinding("note", "wandb", "not logged in, so runs stay offline; for uploads: wandb login")


def slurm() -> Iterator[MachineFinding]:
    missing = [name for name in ("sbatch", "srun", "scontrol") if shutil.which(name) is None]
    if len(missing) == 3:
        yield MachineFinding("note", "slurm", "not here; launcher=slurm is for a login node of a cluster")
    elif missing:
        fix = "module load slurm, or add its bin folder to PATH"
        yield MachineFinding("problem", "slurm", f"{', '.join(missing)} not found, the others are", fix)
    else:
        yield MachineFinding("ok", "slurm", "sbatch, srun and scontrol are here")


def disk(folder: Path, wanted_gb: float) -> Iterator[MachineFinding]:
    place = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        yield MachineFinding(
            "problem", "disk", f"{place} may not be written to", f"chmod u+w {place}, or run=DIR elsewhere"
        )
    elif free < wanted_gb:
        fix = "delete old runs' checkpoints/ (model.safetensors is enough to predict), or run=DIR on another disk"
        yield MachineFinding("problem", "disk", f"{free:.1f} GB free at {place}, {wanted_gb:g} wanted", fix)
    else:
        yield MachineFinding("ok", "disk", f"{free:.0f} GB free at {place}")


def shared_memory(place: Path, wanted_gb: float) -> Iterator[MachineFinding]:
    if not place.is_dir():
        yield MachineFinding("note", "shared mem", f"no {place}; loader processes may fail: data.workers=0")
        return
    size = shutil.disk_usage(place).total / 2**30
    if size < wanted_gb:
        fix = "in a container: --shm-size=8g (or --ipc=host); else data.workers=0"
        yield MachineFinding("problem", "shared mem", f"{size:.2f} GB at {place}, {wanted_gb:g} wanted", fix)
    else:
        yield MachineFinding("ok", "shared mem", f"{size:.1f} GB at {place}")


def open_files() -> Iterator[MachineFinding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < OPEN_FILES:
        raised = min(65536, hard) if hard > 0 else 65536
        yield MachineFinding("problem", "open files", f"{soft} at once, {OPEN_FILES} wanted", f"ulimit -n {raised}")
    else:
        yield MachineFinding("ok", "open files", f"{soft} at once")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
