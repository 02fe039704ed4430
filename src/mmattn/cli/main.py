"""`mmattn VERB key=value ...`: verbs, and the promise that errors are one line with the right exit code.

Exit codes: 0 done, 1 work failed, 2 asked wrongly, 130 interrupted. Heavy imports happen inside the verbs.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence

from mmattn import __version__
from mmattn.cli.completion import QUERY, candidates, script
from mmattn.cli.flags import SHORT, Flags, parsed_flags
from mmattn.config.compose import Composer, Config, choice_text, compose, defaults, group_choices
from mmattn.config.folders import CONFIG_DIR, config_file
from mmattn.config.overrides import GROUPS, check_choice, group_of, nearest
from mmattn.config.targets import TRUST, check_trust, environment
from mmattn.errors import MmattnError, UsageError

USAGE = """usage: mmattn VERB [key=value ...]

  demo       render AVShapes, train late and cross fusion on it, report         mmattn demo
  train      train a model into a run directory                 mmattn train data=folder data.root=videos
  evaluate   score a trained run on a split                     mmattn evaluate run=runs/x split=test
  predict    tags and captions of files                           mmattn predict run=runs/x source=videos
  search     where in a library something is said, seen or heard    mmattn search library.jsonl 'dog barking'
  browse     a library as one page with players                 mmattn browse library.jsonl
  explain    what a file's tags owe to what                     mmattn explain run=runs/x source=clip.mp4
  sweep ls   what of a sweep is done, running, failed, best     mmattn sweep ls runs/sweeps/x
  compare    one HTML report over runs                          mmattn compare runs='runs/*'
  dashboard  the same views in wandb, shown before sent         mmattn dashboard runs='runs/*'
  data shard    every clip decoded once, in tars                mmattn data shard data.root=videos out=shards
  data features the tokens of a run's encoders, kept            mmattn data features run=runs/x data.root=videos
  data prompts  tags as a text encoder knows them       mmattn data prompts tags=tags.txt pretrained=clip out=FILE
  data check    what a library of media holds, good and bad     mmattn data check source=videos
  data label    what was found in a library, to train on        mmattn data label from=library.jsonl out=manifest.jsonl
  data manifest a data set as one file                  mmattn data manifest data=vggsound data.root=DIR out=m.jsonl
  doctor     is this machine fit, and what to fix             mmattn doctor
  show       what can be chosen                                 mmattn show fusion

key=value are Hydra overrides (fusion=late optim.lr=1e-3). `mmattn VERB --help` lists the keys of a verb;
--cfg job shows the config, --info where it comes from, --config-dir DIR adds configs of yours (docs/extend.md).
Names of files are text whatever they look like.
`mmattn train -m fusion=late,cross seed=0,1` sweeps: one run for each combination; --dry-run only tells.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8, and are printed as they are
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
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"mmattn: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"mmattn {__version__}")
        return 0
    verb, *rest = arguments
    if verb == QUERY:
        print("\n".join(candidates(rest, list(VERBS))))
        return 0
    if SHORT.get(verb, verb).partition("=")[0] == "--shell-completion":
        print(script(rest[0] if rest else verb.partition("=")[2]), end="")
        return 0
    if verb in ("data", "sweep") and rest:  # `mmattn data check ...` is the verb "data check"
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    if verb not in VERBS:
        raise UsageError(f"no verb is named {verb!r}{nearest(verb, list(VERBS))}")
    if any(argument in ("-h", "--help") for argument in rest):
        _help(verb, [argument for argument in rest if argument not in ("-h", "--help")])
        return 0
    flags = parsed_flags(verb, rest)
    folder = None if flags.config_dir is None else os.path.abspath(flags.config_dir)  # noqa: PTH100 (may be missing)
    trust = None if flags.trust is None else check_trust(flags.trust)
    with environment(**{CONFIG_DIR: folder, TRUST: trust}):
        if flags.cfg or flags.info:
            _show_config(verb, flags)
        elif verb == "train":
            _train(flags)
        else:
            VERBS[verb](flags.overrides)
    return 0


def _show_config(verb: str, flags: Flags) -> None:
    """`--cfg job` and `--info`: the config that the verb would be given, and where it comes from."""
    name = flags.config_name or verb.replace(" ", "_")
    if verb == "show":
        raise UsageError("show has no config; give --cfg job to another verb")
    if flags.info:
        from mmattn.config.hydra_configs import described

        print(described(name, [text for text in flags.overrides if group_of(text)]))
        return
    import yaml

    node = Composer(name).compose(flags.overrides, resolve=flags.resolve, whole=False)
    for part in (flags.package or "").split(".") if flags.package not in (None, "_global_") else []:
        if not isinstance(node, dict) or part not in node:
            raise UsageError(f"--package {flags.package}: the config has no such part")
        node = node[part]
    plain = not isinstance(node, dict | list)
    print(node if plain else yaml.safe_dump(node, sort_keys=False, allow_unicode=True).rstrip())


def _help(verb: str, chosen: Sequence[str] = ()) -> None:
    if verb == "show":
        print(f"mmattn show GROUP, where GROUP is one of {', '.join(GROUPS)}")
        return
    from mmattn.config.compose import conf_dir

    if groups := {text: group for text in chosen if (group := group_of(text))}:
        for text, group in groups.items():
            name = text.partition("=")[2]
            check_choice(text, group, group_choices(group))
            print(f"{text}, with these keys and defaults ({group}.KEY=... changes one):\n")
            print(choice_text(group, name))
        return
    print(f"mmattn {verb} [key=value ...], with these keys and defaults:\n")
    print((conf_dir() / f"{verb.replace(' ', '_')}.yaml").read_text(encoding="utf-8"), end="")
    if verb == "train":
        print("\ngroups; mmattn train audio=yamnet --help lists the keys of that choice, such as audio.mode:")
        for group in (name for name in GROUPS if name not in ("engine", "format")):
            print(f"  {group}={'|'.join(group_choices(group))}")
        print("\nall keys with the choices that stand above:")
        for line in defaults(verb).splitlines():
            print(f"  {line}")


def _train(flags: Flags) -> None:
    overrides = [*flags.overrides, *(["dry_run=true"] if flags.dry_run else [])]
    name = flags.config_name or "train"
    _check_train_config(name)
    if flags.multirun:
        from mmattn.training.sweep.engine import sweep

        print(sweep(overrides, name))
        return
    config = compose(name, overrides)
    if many := [key for key in ("grid", "budget") if config.get(key)]:
        raise UsageError(f"{many[0]}= is for many runs: mmattn train -m {many[0]}=...")
    if config.get("search"):
        raise UsageError("search= tries many runs: mmattn train -m search=optuna optim.lr=interval(1e-4,1e-2)")
    if not config["resume"]:
        from mmattn.training.run.beforehand import check_beforehand  # before torch is imported

        check_beforehand(config)
    if config["dry_run"]:
        from mmattn.training.run.outlook import dry_run

        print(dry_run(config))
        return
    others = [text for text in overrides if not text.startswith("resume=")]
    from mmattn.training.launch.local import launch

    run = launch(config, others)
    print(run)


def _check_train_config(name: str) -> None:
    """Raises UsageError for a --config-name that cannot stand for train."""
    if config_file(f"{name}.yaml") is None:
        raise UsageError(
            f"--config-name {name}: no folder of configs has {name}.yaml; name yours with --config-dir DIR"
        )
    if name != "train":
        known, own = (Composer(each).compose(whole=False, resolve=False) for each in ("train", name))
        if missing := [key for key in known if key not in own]:
            raise UsageError(f"{name}.yaml has no {missing[0]}; begin it with defaults: [train, _self_]")


def _evaluate(overrides: list[str]) -> None:
    config = compose("evaluate", overrides)
    _check_given(config)
    from mmattn.training.run.evaluate import evaluate

    print(evaluate(config, [text for text in overrides if text.startswith(("attention=", "attention."))]))


def _predict(overrides: list[str]) -> None:
    from mmattn.inference.annotators.catalogue import reaching

    config = compose("predict", reaching(overrides))
    from mmattn.inference.predict import predict

    print(predict(config))


def _search(overrides: list[str]) -> None:
    overrides = [text.removeprefix("search.") for text in overrides]
    forms = [text.partition("=")[2] for text in overrides if text.startswith("format=")]  # no choice of writers here
    config = compose(
        "search",
        _named(overrides, ("library", "query"), ("kinds", "limit", "each", "index", "embeddings", "least_similarity")),
    )
    from mmattn.inference.search.search import search_library

    if found := search_library(config, *forms[-1:]):
        print(found)


def _browse(overrides: list[str]) -> None:
    config = compose("browse", _named(overrides, ("library",), ("out", "thumbnails")))
    from mmattn.reports.library.browse import browse

    print(browse(config))


def _check_given(config: Config) -> None:
    from mmattn.training.run.beforehand import check_given  # before torch is imported

    check_given(config)


def _named(overrides: list[str], places: tuple[str, ...], keys: tuple[str, ...]) -> list[str]:
    """What stands there without a key is given those of `places`, all that is left over the last of them."""
    keyed = [text for text in overrides if text.partition("=")[0].lstrip("+") in (*places, *keys, "format")]
    free = [text for text in overrides if text not in keyed]
    open_places = [place for place in places if not any(text.startswith(f"{place}=") for text in keyed)]
    if len(free) > len(open_places) and not (open_places and open_places[-1] == "query"):
        raise UsageError(f"{free[-1]}: is one name too many")
    named = [f"{place}={text}" for place, text in zip(open_places[:-1], free, strict=False)]
    rest = free[len(named) :]
    named += [f"{open_places[-1]}={' '.join(rest)}"] if rest else []
    return [*named, *(text for text in keyed if not text.startswith("format="))]


def _explain(overrides: list[str]) -> None:
    config = compose("explain", overrides)
    _check_given(config)
    from mmattn.reports.explain.command import explain

    print(explain(config))


def _sweep_ls(overrides: list[str]) -> None:
    config = compose("sweep_ls", _named(overrides, ("folder",), ("metric", "direction")))
    from mmattn.training.sweep.listing import listed

    print(listed(config))


def _compare(overrides: list[str]) -> None:
    if trains := [text for text in overrides if text.startswith(("plan=", "grid=", "budget=", "dry_run="))]:
        grid = trains[0].replace("plan=", "grid=")
        raise UsageError(
            f"{trains[0]}: compare only reads; train with: mmattn train -m {grid} sweep=NAME sweep.evaluate=test, "
            "then: mmattn compare sweep=runs/sweeps/NAME"
        )
    config = compose("compare", overrides)
    from mmattn.reports.page.compare import compare

    print(compare(config))


def _dashboard(overrides: list[str]) -> None:
    config = compose("dashboard", overrides)
    from mmattn.reports.workspace.dashboard import dashboard

    print(dashboard(config))


def _demo(overrides: list[str]) -> None:
    config = compose("demo", overrides)
    from mmattn.demo import demo

    demo(config)


def _data_shard(overrides: list[str]) -> None:
    config = compose("data_shard", overrides)
    _check_given(config)
    from mmattn.data.shards.write import shard

    print(shard(config))


def _data_features(overrides: list[str]) -> None:
    config = compose("data_features", overrides)
    _check_given(config)
    from mmattn.inference.features import make_features

    print(make_features(config))


def _data_prompts(overrides: list[str]) -> None:
    config = compose("data_prompts", overrides)
    from mmattn.inference.embed_tags import make_prompts

    print(make_prompts(config))


def _data_check(overrides: list[str]) -> None:
    config = compose("data_check", overrides)
    from mmattn.reports.library.check import check_library

    print(check_library(config))


def _data_manifest(overrides: list[str]) -> None:
    config = compose("data_manifest", overrides)
    from mmattn.data.manifest.export import export

    print(export(config))


def _data_label(overrides: list[str]) -> None:
    config = compose("data_label", overrides)
    from mmattn.inference.label import label

    print(label(config))


def _doctor(overrides: list[str]) -> None:
    config = compose("doctor", overrides)
    from mmattn.training.doctor.doctor import doctor

    if found := doctor(config):
        print(found)


def _show(arguments: list[str]) -> None:
    unknown = [name for name in arguments if name not in GROUPS]
    if unknown:
        raise UsageError(f"no group is named {unknown[0]!r}{nearest(unknown[0], GROUPS)}")
    if sorted(arguments) == ["attention", "fusion"]:
        from mmattn.fusion.catalogue import pairs

        print(pairs.table())
        return
    for group in arguments or GROUPS:
        if arguments and group == "attention":
            from mmattn.attention.catalogue import table

            print(table())
        elif arguments and group == "fusion":
            from mmattn.fusion.catalogue import strategies as catalogue

            print(catalogue.table())
        else:
            print(f"{group}: {', '.join(group_choices(group))}")


VERBS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "train": lambda overrides: _train(Flags(overrides)),
    "evaluate": _evaluate,
    "predict": _predict,
    "search": _search,
    "browse": _browse,
    "explain": _explain,
    "sweep ls": _sweep_ls,
    "compare": _compare,
    "dashboard": _dashboard,
    "data shard": _data_shard,
    "data features": _data_features,
    "data prompts": _data_prompts,
    "data check": _data_check,
    "data manifest": _data_manifest,
    "data label": _data_label,
    "doctor": _doctor,
    "show": _show,
}
