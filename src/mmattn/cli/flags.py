"""The options of Hydra's command line: those that mmattn supports, and what to type instead of the others. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmattn.errors import UsageError

SHORT = {"-cd": "--config-dir", "-cn": "--config-name", "-cp": "--config-path", "-c": "--cfg", "-p": "--package"}
SHORT |= {"-m": "--multirun", "-r": "--run", "-i": "--info", "-sc": "--shell-completion"}
SWITCHES = ("--multirun", "--run", "--resolve", "--dry-run", "--info")
WITH_VALUE = ("--config-dir", "--config-name", "--cfg", "--package")
FLAGS = tuple(sorted((*SWITCHES, *WITH_VALUE, "--help")))
INSTEAD = {
    "--config-path": "a folder of your own configs is --config-dir DIR",
    "--hydra-help": "mmattn VERB --help lists the keys; --cfg job shows the config",
    "--experimental-rerun": "resume a run from its own frozen config: mmattn train resume=RUN",
    "--shell-completion": 'use it alone: eval "$(mmattn --shell-completion install=bash)"',
}
INFO = ("all", "config", "defaults", "defaults-tree", "searchpath")


@dataclass(frozen=True)
class Flags:
    """Parsed words of a verb. `cfg`: "job" to show the config; `package`: a part of it; `info`: its files."""

    overrides: list[str] = field(default_factory=list)
    config_dir: str | None = None
    config_name: str | None = None
    trust: list[str] | None = None
    cfg: str | None = None
    package: str | None = None
    resolve: bool = False
    info: bool = False
    multirun: bool = False
    dry_run: bool = False


def parsed_flags(verb: str, arguments: Sequence[str]) -> Flags:
    """Parse the words after a verb; options may appear anywhere. Raises UsageError for an unknown option."""
    values: dict[str, str] = {}
    switches: set[str] = set()
    overrides, trust = [], None
    rest = list(arguments)
    while rest:
        text = rest.pop(0)
        name, equals, value = text.partition("=")
        name = SHORT.get(name, name)
        if text.startswith("trust="):
            trust = [each.strip() for each in text.removeprefix("trust=").strip("[]").split(",")]
        elif not text.startswith("-"):
            overrides.append(text)
        elif name in WITH_VALUE:
            if not equals and not rest:
                raise UsageError(f"{text}: expected a value after it")
            values[name] = value if equals else rest.pop(0)
        elif name in SWITCHES and not equals:
            switches.add(name)
            if name == "--info" and rest and rest[0] in (*INFO, "plugins"):
                rest.pop(0)
        else:
            instead = INSTEAD.get(name, f"mmattn takes key=value; see mmattn {verb} --help")
            raise UsageError(f"{text}: {instead}")
    flags = Flags(
        overrides=overrides,
        trust=trust,
        config_dir=values.get("--config-dir"),
        config_name=values.get("--config-name"),
        cfg=values.get("--cfg"),
        package=values.get("--package"),
        resolve="--resolve" in switches,
        info="--info" in switches,
        multirun="--multirun" in switches,
        dry_run="--dry-run" in switches,
    )
    _check(verb, flags)
    return flags


def _check(verb: str, flags: Flags) -> None:
    if flags.cfg not in (None, "job"):
        raise UsageError(f"--cfg {flags.cfg}: mmattn has no configuration of Hydra itself; --cfg job shows the verb's")
    if flags.multirun and flags.cfg:
        raise UsageError("-m with --cfg: a config has one value for each key; --dry-run lists the runs of a sweep")
    if (flags.resolve or flags.package) and not flags.cfg:
        raise UsageError(f"{'--resolve' if flags.resolve else '--package'} needs --cfg job")
    if verb != "train":
        for name, given in (("-m", flags.multirun), ("--dry-run", flags.dry_run), ("--config-name", flags.config_name)):
            if given:
                raise UsageError(f"{name} is for mmattn train; {_OTHERWISE[name].format(verb=verb)}")


_OTHERWISE = {
    "-m": "see mmattn {verb} --help",
    "--dry-run": "see mmattn {verb} --help",
    "--config-name": "{verb} is composed from {verb}.yaml, yours where --config-dir DIR has one",
}
