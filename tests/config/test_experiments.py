"""Every recipe of conf/experiment composes, and all that it chooses can be built."""

from __future__ import annotations

import pytest

from mmattn.config.compose import build, compose, group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.model import NO_TAGS, build_model


@pytest.mark.parametrize("experiment", group_choices("experiment"))
def test_all_that_a_recipe_chooses_can_be_built(experiment: str, vocabulary: TagVocabulary) -> None:
    config = compose("train", [f"experiment={experiment}", "data.root=d"])
    spec = config.get("captions")
    tokenizer = build(spec["tokenizer"], captions=["some words"]) if spec else None
    tags = TagVocabulary(()) if config["task"]["_target_"] == NO_TAGS else vocabulary
    model = build_model(config, tags, tokenizer)
    assert model.visual.dim == model.audio.dim == config["dim"]
    build(config["data"]["clip"])
    build(config["data"]["augment"])
    for group in ("optim", "modality_balance", "weight_average", "regulariser", "self_critical", "freeze"):
        if config.get(group):
            build(config[group])
