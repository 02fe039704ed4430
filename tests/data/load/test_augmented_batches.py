"""From files to augmented batches: the same whatever reads them, in any number of processes, wherever resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.manifest.sources import FolderSource
from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.augment.video import PictureAugment
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.media.write.video import write_video
from mmattn.types import Batch

SPEC = ClipSpec(seconds=0.5, fps=8.0, height=16, width=16, mels=8)
EVERYTHING = Augment(
    modality_dropout=0.2,
    mixup=0.5,
    picture=PictureAugment(0.6, 0.3, 0.5, 2, 0.4, 0.4, 0.4, 0.1, 0.2, 0.3),
    sound=SoundAugment(0.05, 0.7, "babble", (-5, 10), 6, 1, 0.1, 2),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips of a common class and three of a rare one, each with a tone of its own; one without sound."""
    folder = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(1)
    for number in range(12):
        path = folder / ("rare" if number % 4 == 3 else "common") / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        tone = (0.3 * np.sin(np.arange(8000) * (number + 2) / 20)).astype(np.float32)
        frames = generator.integers(0, 256, (4, 4, 4, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        write_video(path, frames, 8, None if number == 5 else tone)
    return folder


def _data(root: Path, **changes: object) -> ClipData:
    settings: dict = {"workers": 0, "cache_gb": 1.0, "balance": "class", "clips_per_epoch": 16, "isolated": False}
    data = ClipData(
        source=FolderSource(str(root), val_fraction=0.25),
        clip=SPEC,
        augment=EVERYTHING,
        batch_size=4,
        seed=3,
        **settings,
    )
    return replace(data, **changes)


def _batches(data: ClipData, epoch: int = 1, seen: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
    loader = data.loader(data.dataset("train", train=True), train=True, rank=rank, world=world)
    loader.batch_sampler.set_epoch(epoch)
    loader.load_state_dict({"epoch": epoch, "batches": seen})
    return list(loader)


def _same(one: Batch, other: Batch) -> bool:
    tensors = [(one.frames, other.frames), (one.spectrogram, other.spectrogram), (one.frame_keep, other.frame_keep)]
    tensors += [(one.spectrogram_keep, other.spectrogram_keep), (one.targets["tags"], other.targets["tags"])]
    return one.ids == other.ids and all(torch.equal(a, b) for a, b in tensors)


@pytest.fixture(scope="module")
def batches(root: Path) -> list[Batch]:
    return _batches(_data(root))


def test_training_is_augmented_and_as_long_as_told(batches: list[Batch]) -> None:
    assert [len(batch) for batch in batches] == [4] * 4
    targets = torch.cat([batch.targets["tags"] for batch in batches])
    assert ((targets > 0) & (targets < 1)).any(), "some are mixed"
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(16))


@pytest.mark.parametrize("changes", [{"cache_gb": 0.0}, {"workers": 2}], ids=["nothing kept", "worker processes"])
def test_batches_do_not_depend_on_how_they_are_read(root: Path, batches: list[Batch], changes: dict) -> None:
    assert all(map(_same, _batches(_data(root, **changes)), batches))


def test_batches_do_not_depend_on_what_was_read_before(root: Path, batches: list[Batch]) -> None:
    data = _data(root)
    _batches(data, epoch=0)
    assert all(map(_same, _batches(data), batches))


def test_an_epoch_goes_on_where_it_was_left(root: Path, batches: list[Batch]) -> None:
    rest = _batches(_data(root), seen=2)
    assert len(rest) == 2
    assert all(map(_same, rest, batches[2:]))


def test_two_processes_share_the_batches_of_one(root: Path, batches: list[Batch]) -> None:
    first, second = (_batches(_data(root), rank=rank, world=2) for rank in range(2))
    for whole, even, odd in zip(batches, first, second, strict=True):
        assert (whole.ids[0::2], whole.ids[1::2]) == (even.ids, odd.ids)
        assert torch.equal(whole.spectrogram[0::2], even.spectrogram)
        assert torch.equal(whole.frames[1::2], odd.frames)


def test_a_clip_that_is_drawn_again_is_augmented_anew(root: Path) -> None:
    batches = _batches(_data(root, clips_per_epoch=40))
    shown: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        for name, frames in zip(batch.ids, batch.frames, strict=True):
            shown.setdefault(name, []).append(frames)
    again = [frames for frames in shown.values() if len(frames) > 2]
    assert again
    assert all(not torch.equal(frames[0], frames[1]) for frames in again)


def test_balance_shows_rare_clips_more_often(root: Path) -> None:
    share = {}
    for balance in ("none", "class"):
        ids = [name for batch in _batches(_data(root, balance=balance, clips_per_epoch=80)) for name in batch.ids]
        share[balance] = sum(name.startswith("rare") for name in ids) / len(ids)
    assert share["none"] < 0.35
    assert 0.38 < share["class"] < 0.62


def test_validation_is_whole_in_order_and_not_augmented(root: Path) -> None:
    data = _data(root)
    batches = list(data.loader(data.dataset("val"), train=False))
    assert [name for batch in batches for name in batch.ids] == [row.id for row in data.rows["val"]]
    plain = data.dataset("val")[(7, 0)].sample
    assert torch.equal(batches[0].spectrogram[0], plain.spectrogram)


def test_noise_at_evaluation_is_the_same_each_time_and_for_every_run(root: Path) -> None:
    noise = Augment(sound=SoundAugment(noise=1.0, snr_db=(0, 0)))
    clean, one, other = (
        next(iter(data.loader(data.dataset("val", augment=augment), train=False)))
        for data, augment in ((_data(root), None), (_data(root), noise), (_data(root, augment=Augment()), noise))
    )
    assert torch.equal(one.spectrogram, other.spectrogram)
    assert torch.equal(one.frames, clean.frames)
    assert torch.equal(one.spectrogram_keep, clean.spectrogram_keep)
    heard = clean.spectrogram_keep.any(dim=1)
    assert ((one.spectrogram - clean.spectrogram).abs().amax(dim=(1, 2)) > 0.1).tolist() == heard.tolist()


@pytest.mark.parametrize(("key", "value"), [("balance", "rare"), ("clips_per_epoch", 0)])
def test_sampling_that_means_nothing_is_refused(tiny_config, key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"data.{key}={value}"):
        build_data(tiny_config(f"data.{key}={value}")["data"])


def test_a_config_of_before_a_key_was_added_is_refused_in_a_line(tiny_config) -> None:
    config = tiny_config()["data"]
    del config["balance"]
    with pytest.raises(UsageError, match=r"data\.balance is not set"):
        build_data(config)
