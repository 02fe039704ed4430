"""Gives a model trained with task=prompted other tags than those it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmattn.checkpoint import Checkpoint
from mmattn.errors import UsageError
from mmattn.tasks.tagging.embeddings import read_embeddings
from mmattn.tasks.tagging.prompted import PromptedTagging


def with_prompts(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """The same model with the tags whose embeddings are in `path`. Tags are independent, and none is calibrated.

    Changes the checkpoint's own model. Raises UsageError for a model of another task, or embeddings of another encoder.
    """
    task = checkpoint.model.task
    if not isinstance(task, PromptedTagging):
        raise UsageError(f"prompts={path}: this model knows only the tags of its training; train with task=prompted")
    checkpoint.model.task = task.with_tags(*read_embeddings(path))
    return replace(checkpoint, vocabulary=checkpoint.model.task.vocabulary, thresholds={})
