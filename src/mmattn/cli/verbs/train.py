"""mmattn train, evaluate, sweep ls and doctor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmattn.cli.verbs.verb import Verb, check_inputs, with_keys
from mmattn.config.compose import Composer, Config
from mmattn.config.folders import config_file
from mmattn.errors import UsageError


def _train(config: Config, overrides: Sequence[str]) -> object:
    if many := [key for key in ("grid", "budget") if config.get(key)]:
        raise UsageError(f"{many[0]}= is for many runs: mmattn train -m {many[0]}=...")
    if config.get("search"):
        raise UsageError("search= tries many runs: mmattn train -m search=optuna optim.lr=interval(1e-4,1e-2)")
    changes = [text for text in overrides if not text.startswith("resume=")]
    if given := [f"sweep.{key}={value}" for key, value in config["sweep"].items() if value is not None]:
        raise UsageError(f"{given[0]}: sweeps are of many runs: mmattn train -m key=a,b sweep=NAME")
    if config["resume"]:
        from mmattn.training.directory.frozen import check_machine, read_config  # before torch is imported

        check_machine(changes)
        read_config(Path(str(config["resume"])))
    else:
        from mmattn.training.run.preflight import check_before_training  # before torch is imported

        check_before_training(config)
    if config["dry_run"]:
        from mmattn.training.run.dry_run import dry_run

        return dry_run(config)
    from mmattn.training.launch.start import launch

    return launch(config, changes)


def multirun(overrides: Sequence[str], config_name: str) -> str:
    """`mmattn train -m`: one run for each combination of values, or a search."""
    from mmattn.training.sweep.multirun import sweep

    return sweep(overrides, config_name)


def check_train_config(name: str) -> None:
    """Raises UsageError for a --config-name that cannot take the place of train."""
    if config_file(f"{name}.yaml") is None:
        raise UsageError(
            f"--config-name {name}: no folder of configs has {name}.yaml; name yours with --config-dir DIR"
        )
    if name != "train":
        known, own = (Composer(each).compose(whole=False, resolve=False) for each in ("train", name))
        if missing := [key for key in known if key not in own]:
            raise UsageError(f"{name}.yaml has no {missing[0]}; begin it with defaults: [train, _self_]")


def _evaluate(config: Config, overrides: Sequence[str]) -> object:
    check_inputs(config)
    from mmattn.training.run.evaluate_checks import check_evaluation  # before torch is imported

    check_evaluation(config)
    from mmattn.training.run.evaluate import evaluate

    return evaluate(config, [text for text in overrides if text.startswith(("attention=", "attention."))])


def _sweep_ls(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.training.sweep.listing import listed

    return listed(config)


def _doctor(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.training.doctor.report import doctor

    return doctor(config)


TRAINING = {
    "train": Verb(_train),
    "evaluate": Verb(_evaluate),
    "sweep ls": Verb(_sweep_ls, lambda typed: with_keys(typed, ("folder",), ("metric", "direction"))),
    "doctor": Verb(_doctor),
}
