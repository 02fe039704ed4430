"""Configs of earlier runs name classes by the modules they stood in then."""

import importlib

import pytest

from mmattn.config import build
from mmattn.moved import MOVED, present_target


@pytest.mark.parametrize(
    "then",
    [
        "mmattn.data.transforms.ClipSpec",
        "mmattn.data.sources.FolderSource",
        "mmattn.data.sources.AVShapesSource",
        "mmattn.data.shards.ShardSource",
        "mmattn.data.features.FeatureSource",
        "mmattn.data.tokenizer.CaptionTokenizer",
        "mmattn.data.augment.Augment",
        "mmattn.data.picture_augment.PictureAugment",
        "mmattn.data.sound_augment.SoundAugment",
        "mmattn.data.adapters.kinetics.KineticsSource",
        "mmattn.training.launch.Local",
        "mmattn.training.slurm.Slurm",
        "mmattn.training.torchrun.Torchrun",
        "mmattn.training.launch.torchrun.Torchrun",  # of today
        "mmattn.training.optim.AdamWOneCycle",
        "mmattn.training.average.ExponentialAverage",
        "mmattn.training.search.Optuna",
        "mmattn.training.masked.CavMae",
    ],
)
def test_names_of_before_are_found_where_the_classes_stand_now(then):
    module, _, name = present_target(then).rpartition(".")
    assert hasattr(importlib.import_module(module), name)
    assert present_target(present_target(then)) == present_target(then)


def test_every_module_of_now_is_there():
    for module in MOVED.values():
        importlib.import_module(module)


def test_a_config_of_before_is_built():
    built = build({"_target_": "mmattn.data.sources.FolderSource", "root": "somewhere"})
    assert type(built).__module__ == "mmattn.data.manifest.sources"
