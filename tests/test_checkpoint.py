"""A model file holds all it needs; loading one runs nothing; a write is whole or did not happen."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mmattn.checkpoint import METADATA_KEY, MODEL_FILE, Checkpoint, load_model, save_model
from mmattn.config.compose import group_choices
from mmattn.data.manifest.library import list_files
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.model import PARTS

CLIP = ClipSpec(seconds=1.0, mels=12)


@pytest.fixture(scope="module")
def model_bytes(tiny_model: Callable, tiny_config: Callable, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    model, path = tiny_model(), tmp_path_factory.mktemp("model") / MODEL_FILE
    save_model(path, Checkpoint(model, tiny_config(), model.task.vocabulary, CLIP, {"epoch": 3}))
    return path.read_bytes()


@pytest.fixture
def saved(model_bytes: bytes, tmp_path: Path) -> Path:
    (tmp_path / MODEL_FILE).write_bytes(model_bytes)
    return tmp_path / MODEL_FILE


def _edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The same weights with a changed record."""
    with safe_open(path, framework="pt") as opened:
        record = json.loads(opened.metadata()[METADATA_KEY])
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    changed = change(record)
    save_file(weights, path, metadata={METADATA_KEY: json.dumps(record if changed is None else changed)})
    return path


@pytest.mark.parametrize("fusion", group_choices("fusion"))
def test_a_loaded_model_says_what_the_saved_one_said(
    fusion: str, tiny_model: Callable, tiny_config: Callable, make_batch: Callable, tmp_path: Path
) -> None:
    model, config = tiny_model(f"fusion={fusion}"), tiny_config(f"fusion={fusion}")
    save_model(tmp_path / MODEL_FILE, Checkpoint(model, config, model.task.vocabulary, CLIP, {"epoch": 3}))
    batch = make_batch(3, missing={1: "video"})
    torch.manual_seed(99)
    for path in (tmp_path, tmp_path / MODEL_FILE):
        loaded = load_model(path)
        assert not loaded.model.training
        assert torch.equal(loaded.model(batch), model(batch))
        assert loaded.vocabulary == model.task.vocabulary == loaded.model.task.vocabulary
        assert loaded.clip == CLIP
        assert loaded.info == {"epoch": 3}
        assert loaded.config == {name: config[name] for name in PARTS if config.get(name)}


def test_a_loaded_model_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "copy.safetensors", load_model(saved))
    assert (tmp_path / "copy.safetensors").read_bytes() == saved.read_bytes()


def test_a_fresh_process_loads_it_and_may_be_killed_while_writing(saved: Path) -> None:
    """Without the training stack; the sync before the replacement is the last thing that the process does."""
    before = saved.read_bytes()
    code = (
        "import os, signal, sys; from pathlib import Path; from mmattn.checkpoint import load_model, save_model; "
        "loaded = load_model(Path(sys.argv[1])); "
        "assert not {'lightning', 'wandb'} & set(sys.modules); "
        "loaded.info['epoch'] = 4; "
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL); "
        "save_model(Path(sys.argv[1]), loaded)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(saved)]).returncode == -9
    assert saved.read_bytes() == before
    assert load_model(saved).info == {"epoch": 3}


class _Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_and_nothing_in_it_runs(tmp_path: Path) -> None:
    mark, plain, zipped = tmp_path / "mark", tmp_path / "plain.pt", tmp_path / "zipped.pt"
    plain.write_bytes(pickle.dumps(_Trap(mark)))
    torch.save({"state_dict": _Trap(mark)}, zipped)
    for path in (plain, zipped):
        path = path.rename(tmp_path / MODEL_FILE)
        with pytest.raises(UsageError, match="not a complete mmattn model"):
            load_model(path)
        assert not mark.exists()
    pickle.loads(pickle.dumps(_Trap(mark)))
    assert mark.exists(), "the trap does work"


@pytest.mark.parametrize("keep", [0, 1, 8, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(UsageError, match="not a complete mmattn model") as error:
        load_model(saved)
    assert "\n" not in str(error.value)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(os.urandom(5000))
    with pytest.raises(UsageError, match="not a complete mmattn model"):
        load_model(tmp_path)


def test_weights_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / MODEL_FILE)
    with pytest.raises(UsageError, match="not a complete mmattn model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: [],
        lambda record: 3,
        lambda record: {},
        lambda record: record.pop("config") and None,
        lambda record: record.pop("vocabulary") and None,
        lambda record: record.pop("clip") and None,
        lambda record: record.pop("info") and None,
        lambda record: record.update(config={}),
        lambda record: record.update(config=3),
        lambda record: record.update(config="x"),
        lambda record: record["config"].pop("task") and None,
        lambda record: record["config"].update(fusion=None),
        lambda record: record["config"].update(fusion="mmattn.fusion.late.LateFusion"),
        lambda record: record["config"]["fusion"].update(_partial_=True),
        lambda record: record["config"]["fusion"].update(dim="${oc.env:HOME}"),
        lambda record: record["config"]["fusion"].update(dim="???"),
        lambda record: record["config"]["fusion"].update(layers=3),
        lambda record: record["config"]["fusion"].update(layers=-1),
        lambda record: record["config"]["fusion"].update(dim=8),
        lambda record: record.update(clip={"seconds": -1}),
        lambda record: record.update(clip={"hours": 1}),
        lambda record: record["vocabulary"].pop("names") and None,
        lambda record: record["vocabulary"].update(exclusive=[[0, 99]]),
        lambda record: record["vocabulary"].update(exclusive=[[0, "a"]]),
        lambda record: record["vocabulary"].update(names=["a"]),
        lambda record: record["vocabulary"].update(families=3),
        lambda record: record.update(info=3),
    ],
)
def test_a_record_that_does_not_fit_is_refused(saved: Path, change: Callable) -> None:
    with pytest.raises(UsageError) as error:
        load_model(_edit(saved, change))
    assert "\n" not in str(error.value)


def test_a_record_that_names_other_code_is_refused_before_it_runs(saved: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def change(record: dict) -> None:
        record["config"]["fusion"]["attention"] = {
            "_target_": "pathlib.Path.write_text",
            "self": str(mark),
            "data": "x",
        }

    with pytest.raises(UsageError, match=r"is (not a class|code of the package)"):
        load_model(_edit(saved, change))
    assert not mark.exists()


def test_missing_weights_are_refused(saved: Path) -> None:
    with safe_open(saved, framework="pt") as opened:
        metadata = opened.metadata()
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    weights.popitem()
    save_file(weights, saved, metadata=metadata)
    with pytest.raises(UsageError, match="weights do not fit") as error:
        load_model(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["http://host/model.safetensors", "https://host/x", "s3://bucket/x"])
def test_an_address_is_refused_with_what_to_do(address: str) -> None:
    """As texts or as paths, which lose one of the two slashes."""
    with pytest.raises(UsageError, match="a local file; download it first"):
        load_model(Path(address))
    with pytest.raises(UsageError, match="local files and directories; download it first"):
        list_files(Path(address))


def test_no_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no epoch is finished yet"):
        load_model(tmp_path)
    with pytest.raises(UsageError, match="no such model"):
        load_model(tmp_path / "gone")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "deep" / "file"
    write_atomically(target, b"before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for path in (target, target.with_name("new")):
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, b"after" * 1000)
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target], "nothing half-written, under any name"


def test_who_reads_while_it_is_replaced_reads_the_whole_of_one_version(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"before")
    with (tmp_path / "file").open("rb") as reader:
        write_atomically(tmp_path / "file", b"after")
        assert reader.read() == b"before"
    assert (tmp_path / "file").read_bytes() == b"after"


def test_what_cannot_be_json_is_never_half_saved(saved: Path) -> None:
    before = saved.read_bytes()
    loaded = load_model(saved)
    broken = Checkpoint(loaded.model, loaded.config, loaded.vocabulary, loaded.clip, {"score": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        save_model(saved, broken)
    assert saved.read_bytes() == before
