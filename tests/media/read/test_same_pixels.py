"""One picture, whichever way it takes: read from the file, through a shard, burnt in, as a thumbnail, by torchcodec."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from picture_films import QUARTERS, circle, hdr_film, interlaced_film, needs_ffmpeg, roundness, turned_film
from PIL import Image

from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.prepare.clips import ClipSpec
from mmattn.inference.writers.burn_in import BurnIn
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.decode import decode, read_clip
from mmattn.media.read.request import Request
from mmattn.media.write.video import write_video
from mmattn.reports.page.thumbnails import thumbnails

FILMS: dict[str, Callable[[Path], Path]] = {
    "circle": circle,
    "mirrored": lambda path: turned_film(path, 0, True),
    "transposed": lambda path: turned_film(path, 90, True),
    "hdr": lambda path: hdr_film(path, "pq"),
    "interlaced": interlaced_film,
}
SIDE, SPLITS = 96, ("train", "val")


@pytest.fixture(scope="module", params=FILMS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    path = FILMS[request.param](folder / f"{request.param}.mp4")
    (folder / "manifest.jsonl").write_text(
        "".join(
            json.dumps({"id": split, "path": path.name, "tags": [split], "split": split}) + "\n" for split in SPLITS
        )
    )
    return path


@pytest.fixture(scope="module")
def reader() -> Iterator[IsolatedReader]:
    with IsolatedReader() as reader:
        yield reader


def direct(path: Path, **options) -> np.ndarray:
    """(H, W, 3) of the first frame."""
    clip = read_clip(path, times=[0.0], audio=False, **options)
    assert clip.frames is not None
    return clip.frames[0].permute(1, 2, 0).numpy().astype(float)


def data_of(kind: str, root: Path, fit: str) -> ClipData:
    size = [f"data.clip.height={SIDE}", f"data.clip.width={SIDE}", f"data.clip.fit={fit}", "data.clip.seconds=0.2"]
    config = compose("train", [f"data={kind}", f"data.root={root}", "data.isolated=false", *size])
    data = build_data(config["data"])
    assert isinstance(data, ClipData)
    return data


@needs_ffmpeg
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_shard_holds_what_the_file_shows(film: Path, tmp_path: Path, fit: str):
    out = tmp_path / "shards"
    made = ["data", "shard", f"data.root={film.parent}", f"out={out}", "data.isolated=false", "threads=1", "fps=25"]
    assert main([*made, "short_side=400", "quality=98", "seconds=0.2"]) == 0
    files, shards = (data_of(kind, root, fit) for kind, root in (("folder", film.parent), ("shards", out)))
    for split in SPLITS:
        (ours,), (theirs,) = files.rows[split], shards.rows[split]
        one, other = (
            data.clip.read(row.media, row.start, row.end, reader=data.reader).frames
            for data, row in ((files, ours), (shards, theirs))
        )
        assert one is not None and other is not None and one.shape == other.shape
        assert (one.float() - other.float()).abs().mean() < 4
        if film.stem == "circle" and fit != "stretch":
            assert abs(roundness(other[0].permute(1, 2, 0).numpy()) - 1) < 0.03


@needs_ffmpeg
def test_what_is_burnt_in_stands_on_the_same_picture(film: Path, tmp_path: Path, reader: IsolatedReader):
    caption = {"text": "x", "start": 0.12, "end": 0.16}
    record = {
        "id": film.name,
        "path": str(film),
        "status": "ok",
        "modality": {"used": ["video"]},
        "spans": [[0.0, 0.2]],
    }
    record |= {"captions": [caption], "tags": []}
    tall = direct(film).shape[0]
    tall -= tall % 2
    assert BurnIn(tmp_path / "out", tall, overwrite=False).write([record], tmp_path / "ledger", reader)["written"] == 1
    burnt = direct(tmp_path / "out" / film.name)
    meant = direct(film, size=burnt.shape[:2])
    assert abs(burnt.shape[1] / burnt.shape[0] - meant.shape[1] / meant.shape[0]) < 0.02
    assert np.abs(burnt - meant).mean() < 6
    if film.stem == "circle":
        assert abs(roundness(burnt) - 1) < 0.03


@needs_ffmpeg
def test_thumbnails_have_the_shape_that_is_shown(film: Path, reader: IsolatedReader):
    whole = direct(film)
    first = thumbnails(str(film), (0.0, 0.04), reader.read)[0]
    small = np.asarray(Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2]))).convert("RGB"))
    assert abs(small.shape[1] / small.shape[0] - whole.shape[1] / whole.shape[0]) < 0.03
    assert np.abs(small.mean(axis=(0, 1)) - whole.mean(axis=(0, 1))).max() < 6


@needs_ffmpeg
def test_torchcodec_gives_the_same_or_says_that_it_did_not(film: Path):
    pytest.importorskip("torchcodec")
    from mmattn.media.read.torchcodec import decode_with_torchcodec

    for asked in (Request(times=[0.0, 0.1]), Request(times=[0.05], size=(40, 40), fit="crop")):
        ours, theirs = decode(asked, film), decode_with_torchcodec(asked, film)
        assert ours.frames is not None and theirs.frames is not None
        assert np.abs(ours.frames.astype(float) - theirs.frames).mean() < 3
        assert ("pyav_frames" in theirs.issues) == (film.stem != "circle")


def test_configs_from_before_keep_their_meaning(film: Path):
    """A checkpoint that says nothing of HDR and fields was trained on pictures as they are stored."""
    spec = ClipSpec(height=48, width=48, fps=25.0, seconds=0.1)
    seen = spec.read(film).frames
    plain = read_clip(film, times=spec.times(0.0, 0.1), size=(48, 48), hdr="as_is", deinterlace=False).frames
    assert seen is not None and plain is not None
    np.testing.assert_array_equal(seen.numpy(), plain.numpy())
    now = compose("train", ["data=folder", "data.root=x"])["data"]["clip"]
    assert (now["hdr"], now["deinterlace"]) == ("tonemap", True)


def test_one_picture_is_kept_in_shards(tmp_path: Path):
    """A film of one frame, and a still: over before the first time of the grid."""
    (tmp_path / "files").mkdir()
    write_video(tmp_path / "files" / "one.mp4", QUARTERS[None], 25)
    Image.fromarray(QUARTERS).save(tmp_path / "files" / "still.png")
    rows = [
        {"path": name, "tags": [name], "split": split}
        for name, split in zip(("one.mp4", "still.png"), SPLITS, strict=True)
    ]
    (tmp_path / "files" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "shards"
    made = ["data", "shard", f"data.root={tmp_path / 'files'}", f"out={out}", "data.isolated=false", "threads=1"]
    assert main(made) == 0
    files, shards = data_of("folder", tmp_path / "files", "stretch"), data_of("shards", out, "stretch")
    for split in SPLITS:
        (ours,), (theirs,) = files.rows[split], shards.rows[split]
        one, other = (
            data.clip.prepare(data.clip.read(row.media, row.start, row.end, reader=data.reader))
            for data, row in ((files, ours), (shards, theirs))
        )
        assert one.frame_keep.tolist() == other.frame_keep.tolist() and one.frame_keep.any()
        assert (one.frames[one.frame_keep].float() - other.frames[other.frame_keep].float()).abs().mean() < 8
