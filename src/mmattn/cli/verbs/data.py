"""mmattn data ...: shards, features, prompts, checks, manifests and labels."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.cli.verbs.verb import Verb, check_inputs, check_out
from mmattn.config.compose import Config
from mmattn.files import check_has_model, expanded
from mmattn.process.device import check_device


def _shard(config: Config, overrides: Sequence[str]) -> object:
    check_inputs(config)
    check_out(config)
    from mmattn.data.shards.write import shard

    return shard(config)


def _features(config: Config, overrides: Sequence[str]) -> object:
    check_inputs(config)
    check_out(config)
    check_has_model(expanded(str(config["run"])))
    check_device(config["device"])
    from mmattn.inference.commands.features import make_features

    return make_features(config)


def _prompts(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.inference.commands.embed_tags import make_prompts

    return make_prompts(config)


def _check(config: Config, overrides: Sequence[str]) -> object:
    check_out(config)
    from mmattn.reports.library.check import check_library

    return check_library(config)


def _manifest(config: Config, overrides: Sequence[str]) -> object:
    check_out(config)
    from mmattn.data.manifest.export import export

    return export(config)


def _label(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.inference.commands.label import label

    return label(config)


DATA = {
    "data shard": Verb(_shard),
    "data features": Verb(_features),
    "data prompts": Verb(_prompts),
    "data check": Verb(_check),
    "data manifest": Verb(_manifest),
    "data label": Verb(_label),
}
