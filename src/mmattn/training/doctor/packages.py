"""Versions of the packages that mmattn needs, and whether they fit each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from mmattn.training.doctor.finding import MachineFinding

MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}


def packages() -> Iterator[MachineFinding]:
    """The required packages are installed in versions that mmattn supports. Missing extras are no problem."""
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
        if name == "torchaudio" and minor > 11:  # its version numbers no longer follow torch's, so it has to load
            fits = own is not None and _loads(name)
        else:
            fits = own is not None and ".".join(own.split(".")[:2]) == family
        if not fits:
            fix = f"pip install --upgrade torch=={torch_version.partition('+')[0]} torchvision torchaudio"
            yield MachineFinding("problem", name, f"{own} was not built for torch {torch_version}", fix)


def _loads(name: str) -> bool:
    code = f"import {name}"
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=120).returncode == 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
