"""`mmattn --help`, `mmattn VERB --help`, and the config of a verb (--cfg job, --info). No torch."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.cli.flags import Flags
from mmattn.config.compose import Composer, choice_text, defaults, group_choices
from mmattn.config.folders import conf_dir
from mmattn.config.names import split
from mmattn.config.overrides import GROUPS, check_choice, group_of
from mmattn.errors import UsageError

ANNOTATOR = "annotator"  # the group; not a key of predict, which has a part for each

USAGE = """usage: mmattn VERB [key=value ...]

  demo          render AVShapes, train two fusions on it, report   mmattn demo
  train         train a model into a run directory                 mmattn train data=folder data.root=videos
  evaluate      score a trained run on a split                     mmattn evaluate run=runs/x split=test
  predict       tags and captions of files                         mmattn predict run=runs/x source=videos
  search        find what is said, seen or heard in a library      mmattn search library.jsonl 'dog barking'
  browse        a library as one page with players                 mmattn browse library.jsonl
  explain       which frames and sounds decided a file's tags      mmattn explain run=runs/x source=clip.mp4
  sweep ls      runs of a sweep: done, running, failed, best       mmattn sweep ls runs/sweeps/x
  compare       one HTML report over runs                          mmattn compare runs='runs/*'
  dashboard     the same views in wandb; a preview by default      mmattn dashboard runs='runs/*'
  data shard    decode every clip once, into tar files             mmattn data shard data.root=videos out=shards
  data features store the tokens of a run's encoders               mmattn data features run=runs/x data.root=videos
  data prompts  embed tags with a text encoder          mmattn data prompts tags=tags.txt pretrained=clip out=FILE
  data check    report on the media of a library                   mmattn data check source=videos
  data label    labels from a tagged library, to train on          mmattn data label from=library.jsonl out=m.jsonl
  data manifest a data set as one file                  mmattn data manifest data=vggsound data.root=DIR out=m.jsonl
  doctor        check this machine, and how to fix it              mmattn doctor
  show          list what can be chosen                            mmattn show fusion

key=value are Hydra overrides (fusion=late optim.lr=1e-3). `mmattn VERB --help` lists the keys of a verb;
--cfg job shows its config, --info the files it comes from, --config-dir DIR adds your configs (docs/extend.md).
File names are taken literally, whatever characters they contain.
`mmattn train -m fusion=late,cross seed=0,1` sweeps: one run for each combination; --dry-run trains nothing.
"""


def verb_help(verb: str, typed: Sequence[str] = ()) -> str:
    """The keys of a verb with their defaults; with choices of groups in `typed` the keys of those choices."""
    if verb == "show":
        return f"mmattn show GROUP, where GROUP is one of {', '.join(GROUPS)}"
    if verb == "predict" and (named := _annotators(typed)):
        return "\n".join(map(_annotator_help, named)).rstrip("\n") + "\n"
    if chosen := [(text, group) for text in typed if (group := group_of(text))]:
        return "\n".join(_choice_help(text, group) for text, group in dict(chosen).items()).rstrip("\n") + "\n"
    file = conf_dir() / f"{verb.replace(' ', '_')}.yaml"
    lines = [f"mmattn {verb} [key=value ...], with these keys and defaults:\n", file.read_text(encoding="utf-8")]
    if verb == "train":
        lines += ["groups; mmattn train audio=yamnet --help lists the keys of that choice, such as audio.mode:"]
        groups = (name for name in GROUPS if name not in ("engine", "format"))
        lines += [f"  {group}={'|'.join(group_choices(group))}" for group in groups]
        lines += ["\nall keys with the default choices:"]
        lines += [f"  {line}" for line in defaults(verb).splitlines()]
    if verb == "predict":
        lines += ["mmattn predict annotators=[speech] --help lists the keys of annotators, such as speech.pretrained:"]
        lines += [f"  annotators={'|'.join(group_choices(ANNOTATOR))}"]
    return "\n".join(lines).rstrip("\n")


def _annotators(typed: Sequence[str]) -> list[str]:
    given = [text.partition("=")[2].strip("[]") for text in typed if text.startswith("annotators=")]
    return [name for name in split(given[-1]) if name != "auto"] if given else []


def _annotator_help(name: str) -> str:
    check_choice(f"{ANNOTATOR}={name}", ANNOTATOR, group_choices(ANNOTATOR))
    return f"{name}, with these keys and defaults ({name}.KEY=... changes one):\n\n{choice_text(ANNOTATOR, name)}"


def _choice_help(text: str, group: str) -> str:
    check_choice(text, group, group_choices(group))
    keys = choice_text(group, text.partition("=")[2])
    return f"{text}, with these keys and defaults ({group}.KEY=... changes one):\n\n{keys}"


def config_text(verb: str, flags: Flags) -> str:
    """`--cfg job`: the config the verb would be given; `--info`: the files it comes from. Raises UsageError."""
    name = flags.config_name or verb.replace(" ", "_")
    if verb == "show":
        raise UsageError("show has no config; give --cfg job to another verb")
    if flags.info:
        if odd := [text for text in flags.overrides if "=" not in text and not text.startswith("~")]:
            raise UsageError(f"{odd[0]!r} is not key=value")
        from mmattn.config.hydra_configs import described

        return described(name, [text for text in flags.overrides if group_of(text)])
    import yaml

    node = Composer(name).compose(flags.overrides, resolve=flags.resolve, whole=False)
    for part in (flags.package or "").split(".") if flags.package not in (None, "_global_") else []:
        if not isinstance(node, dict) or part not in node:
            raise UsageError(f"--package {flags.package}: the config has no such part")
        node = node[part]
    if not isinstance(node, dict | list):
        return str(node)
    return yaml.safe_dump(node, sort_keys=False, allow_unicode=True).rstrip()
