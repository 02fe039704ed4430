"""A model trained with task=prompted is asked for other tags than those it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmattn.checkpoint import Checkpoint
from mmattn.errors import UsageError
from mmattn.tasks.tagging.embeddings import read_embeddings
from mmattn.tasks.tagging.prompted import PromptedTagging


def asking(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """The same model for the tags of which `path` has embeddings. They stand alone, and nothing is calibrated.

    The checkpoint's own model is changed. Raises UsageError for a model that was trained otherwise, or embeddings of
    another encoder.
    """
    task = checkpoint.model.task
    if not isinstance(task, PromptedTagging):
        raise UsageError(f"prompts={path}: this model knows only the tags of its training; train with task=prompted")
    checkpoint.model.task = task.with_tags(*read_embeddings(path))
    return replace(checkpoint, vocabulary=checkpoint.model.task.vocabulary, thresholds={})
