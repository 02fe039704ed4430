"""`mmattn VERB key=value ...`: finds the verb, composes its config, runs it. Errors are one line and an exit code.

Exit codes: 0 done, 1 the work failed, 2 usage error, 130 interrupted. Heavy imports happen inside the verbs.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from mmattn import __version__
from mmattn.cli.completion import QUERY, candidates, script
from mmattn.cli.flags import SHORT, Flags, parsed_flags
from mmattn.cli.help import USAGE, config_text, verb_help
from mmattn.cli.verbs.data import DATA
from mmattn.cli.verbs.predict import PREDICTING
from mmattn.cli.verbs.reports import REPORTING
from mmattn.cli.verbs.show import show
from mmattn.cli.verbs.train import TRAINING, check_train_config, multirun
from mmattn.config.compose import compose
from mmattn.config.folders import CONFIG_DIR
from mmattn.config.overrides import nearest
from mmattn.config.targets import TRUST, check_trust, environment
from mmattn.errors import MmattnError, UsageError, os_line

COMPOSED = {**TRAINING, **PREDICTING, **REPORTING, **DATA}  # verbs with a config of their own
VERBS = (*COMPOSED, "show")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be UTF-8, and are printed as they are
        sys.stdout.reconfigure(errors="surrogateescape")
    if os.environ.get("MMATTN_DEBUG"):  # for developers: errors keep their traceback
        return _dispatch(arguments)
    try:
        return _dispatch(arguments)
    except MmattnError as error:
        print(f"mmattn: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mmattn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the program that read our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"mmattn: {os_line(error)}", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb in ("-V", "--version"):
        print(f"mmattn {__version__}")
    elif verb == QUERY:
        print("\n".join(candidates(rest, VERBS)))
    elif SHORT.get(verb, verb).partition("=")[0] == "--shell-completion":
        print(script(rest[0] if rest else verb.partition("=")[2]), end="")
    else:
        if verb in ("data", "sweep") and rest:  # `mmattn data check ...` is the verb "data check"
            verb, rest = f"{verb} {rest[0]}", rest[1:]
        _run(verb, rest)
    return 0


def _run(verb: str, words: list[str]) -> None:
    if verb not in VERBS:
        raise UsageError(f"no verb is named {verb!r}{nearest(verb, VERBS)}")
    typed = [word for word in words if word not in ("-h", "--help")]
    if typed != words:
        print(verb_help(verb, typed))
        return
    flags = parsed_flags(verb, words)
    folder = None if flags.config_dir is None else os.path.abspath(flags.config_dir)  # noqa: PTH100 (may be missing)
    trust = None if flags.trust is None else check_trust(flags.trust)
    with environment(**{CONFIG_DIR: folder, TRUST: trust}):
        printed = config_text(verb, _in_full(verb, flags)) if flags.cfg or flags.info else _answer(verb, flags)
    if printed:
        print(printed)


def _in_full(verb: str, flags: Flags) -> Flags:
    """`flags` with the overrides that the verb makes of what was typed."""
    return replace(flags, overrides=COMPOSED[verb].overrides_of(flags.overrides)) if verb in COMPOSED else flags


def _answer(verb: str, flags: Flags) -> object:
    """Do the work of a verb; returns what to print."""
    if verb == "show":
        return show(flags.overrides)
    name, overrides = verb.replace(" ", "_"), flags.overrides
    if verb == "train":
        name = flags.config_name or "train"
        check_train_config(name)
        overrides = [*overrides, *(["dry_run=true"] if flags.dry_run else [])]
        if flags.multirun:
            return multirun(overrides, name)
    config = compose(name, COMPOSED[verb].overrides_of(overrides))
    return COMPOSED[verb].run(config, overrides)
