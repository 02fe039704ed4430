"""Tags by their embeddings: no weight is a tag's own, so other tags can be asked for, and embeddings are checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmattn.checkpoint import MODEL_FILE, Checkpoint, load_model, save_model
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.inference.predictor.prompts import with_prompts
from mmattn.metrics.tags import average_precision
from mmattn.model import build_model
from mmattn.tasks.tagging.embeddings import read_embeddings
from mmattn.tasks.tagging.prompted import PromptedTagging
from mmattn.types import Batch, Fused, Tokens

DIM, SIZE = 16, 6


@pytest.fixture
def file(vocabulary: TagVocabulary, tmp_path: Path) -> Path:
    save_file({name: torch.randn(SIZE) for name in vocabulary.names}, tmp_path / "tags.safetensors")
    return tmp_path / "tags.safetensors"


@pytest.fixture
def task(file: Path, vocabulary: TagVocabulary) -> PromptedTagging:
    return PromptedTagging(DIM, vocabulary, str(file))


@pytest.fixture
def fused(make_tokens: Callable) -> Fused:
    """Clip 0 has no picture, clip 1 no sound, clip 2 neither."""
    video, audio = make_tokens(4, 3, seed=1), make_tokens(4, 2, seed=2)
    first, second, third = (torch.arange(4) == clip for clip in (0, 1, 2))
    return Fused(video.without(first | third), audio.without(second | third))


def test_every_weight_learns_and_missing_modalities_have_their_path(
    task: PromptedTagging, fused: Fused, make_batch: Callable
) -> None:
    logits = task(fused)
    assert logits.shape == (4, 5) and logits.isfinite().all()
    task.loss(logits, make_batch(4))["loss"].backward()
    unused = {name for name, p in task.named_parameters() if p.grad is None or float(p.grad.abs().max()) < 1e-7}
    assert not unused
    for name, tokens in (("video", fused.video), ("audio", fused.audio)):
        weights = task.reads(fused)[name]  # type: ignore[index]
        torch.testing.assert_close(weights.sum(dim=2), tokens.present[:, None].float().expand(-1, 5))


def test_padding_changes_nothing(task: PromptedTagging, fused: Fused) -> None:
    def padded(tokens: Tokens) -> Tokens:
        values = torch.cat([tokens.values, torch.full_like(tokens.values[:, :1], 9.0)], dim=1)
        keep = torch.cat([tokens.keep, torch.zeros_like(tokens.keep[:, :1])], dim=1)
        return Tokens(values, keep, torch.cat([tokens.times, tokens.times[:, :1]], dim=1))

    torch.testing.assert_close(task(Fused(padded(fused.video), padded(fused.audio))), task(fused))


def test_what_a_tag_says_depends_on_its_embedding_alone(task: PromptedTagging, fused: Fused) -> None:
    order = [3, 0, 4]
    other = task.with_tags(["x", "y", "z"], task.embeddings[order])
    torch.testing.assert_close(other(fused), task(fused)[:, order])
    assert other.vocabulary.names == ("x", "y", "z") and not other.vocabulary.exclusive
    with pytest.raises(UsageError, match="7 dimensions, but the model was trained with 6"):
        task.with_tags(["x"], torch.randn(1, 7))


def test_a_tag_that_training_never_showed_is_found_by_what_it_means() -> None:
    """A tag is a direction; clips hold noise and, where the tag is there, one token of that direction."""
    generator = torch.Generator().manual_seed(0)
    known, unknown = (torch.nn.functional.normalize(torch.randn(n, SIZE, generator=generator), dim=1) for n in (60, 10))
    turn = torch.linalg.qr(torch.randn(DIM, SIZE, generator=generator)).Q

    def clips(tags: torch.Tensor, count: int) -> tuple[Fused, torch.Tensor]:
        chosen = torch.randint(len(tags), (count,), generator=generator)
        values = torch.randn(count, 2, DIM, generator=generator) * 0.2
        values[torch.arange(count), torch.randint(2, (count,), generator=generator)] += 4 * tags[chosen] @ turn.T
        keep = torch.ones(count, 2, dtype=torch.bool)
        tokens = Tokens(values, keep, torch.zeros(count, 2))
        return Fused(tokens, tokens.without(keep[:, 0])), torch.nn.functional.one_hot(chosen, len(tags)).float()

    names = tuple(f"tag{i}" for i in range(60))
    task = PromptedTagging(DIM, TagVocabulary(names), text_dim=SIZE)
    task.embeddings.copy_(known)
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.02)
    for _ in range(150):
        fused, targets = clips(known, 64)
        nothing = torch.zeros(64, 0)
        batch = Batch(nothing, nothing, nothing, nothing, nothing, nothing, ("",) * 64, {"tags": targets})  # type: ignore[arg-type]
        loss = task.loss(task(fused), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fused, targets = clips(unknown, 400)
    with torch.no_grad():
        found = average_precision(task.with_tags([f"new{i}" for i in range(10)], unknown)(fused), targets)
    assert float(found.mean()) > 0.4, "chance is 0.1"


def test_a_checkpoint_needs_no_file_and_may_be_asked_for_other_tags(
    file: Path, tiny_config: Callable, vocabulary: TagVocabulary, make_batch: Callable, tmp_path: Path
) -> None:
    config = tiny_config("task=prompted", f"task.pretrained={file}")
    model = build_model(config, vocabulary).eval()
    save_model(
        tmp_path / MODEL_FILE,
        Checkpoint(model, config, vocabulary, ClipSpec(seconds=1.0, mels=12), {}, {"beep": 0.2}),
    )
    new = torch.randn(2, SIZE)
    np.savez(tmp_path / "new.npz", **{"a/cat": new[0].numpy(), "dog": new[1].numpy()})
    file.unlink()
    loaded, batch = load_model(tmp_path), make_batch(3)
    torch.testing.assert_close(loaded.model(batch), model(batch))
    other = with_prompts(loaded, tmp_path / "new.npz")
    assert other.vocabulary.names == ("a/cat", "dog") and other.thresholds == {}
    assert other.model(batch).shape == (3, 2)
    torch.testing.assert_close(other.model.task.embeddings, new / new.norm(dim=1, keepdim=True))


def test_a_model_with_tags_of_its_own_cannot_be_asked_for_others(tiny_model: Callable, file: Path) -> None:
    model = tiny_model()
    with pytest.raises(UsageError, match="train with task=prompted"):
        with_prompts(Checkpoint(model, {}, model.task.vocabulary, ClipSpec(), {}), file)


def test_files_of_embeddings_are_checked(tmp_path: Path) -> None:
    names, good = ("a", "b"), {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[0.0, 2.0]])}
    save_file(good, tmp_path / "good.safetensors")
    known, rows = read_embeddings(tmp_path / "good.safetensors", names)
    assert known == names
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    np.savez(tmp_path / "pickle.npz", a=np.array([{}], dtype=object))
    for name in ("damaged.npz", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 damaged")
    for number, (bad, says) in enumerate(
        [
            ({"a": good["a"]}, "no embedding of the tag 'b'"),
            ({"a": good["a"], "b": torch.ones(3)}, "same length"),
            ({"a": good["a"], "b": torch.zeros(2)}, "zero or not finite"),
            ({"a": good["a"], "b": torch.tensor([1.0, torch.nan])}, "zero or not finite"),
        ]
    ):
        path = tmp_path / f"{number}.safetensors"
        save_file(bad, path)
        with pytest.raises(UsageError, match=says):
            read_embeddings(path, names)
    for name, says in (
        ("absent.npz", "no such file"),
        ("absent.safetensors", "no such file"),
        ("words.txt", "expected embeddings as"),
        ("damaged.npz", "cannot read embeddings"),
        ("damaged.safetensors", "cannot read embeddings"),
        ("pickle.npz", "cannot read embeddings"),
    ):
        with pytest.raises(UsageError, match=says):
            read_embeddings(tmp_path / name, names)


def test_without_a_file_training_says_what_is_needed(vocabulary: TagVocabulary) -> None:
    with pytest.raises(UsageError, match=r"task\.pretrained=FILE"):
        PromptedTagging(DIM, vocabulary)
