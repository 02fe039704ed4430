"""A folder as a data set, and the vocabulary that its training clips make."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mmattn.data.manifest.adapters.annotated import MediaIndex
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.library import list_files, list_media
from mmattn.data.manifest.rows import Row
from mmattn.data.manifest.sources import FolderSource
from mmattn.errors import UsageError
from mmattn.inference.jobs.listing import list_source


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _rows(*tags: tuple[str, ...], families: dict[str, str] | None = None) -> list[Row]:
    return [Row(id=str(i), path=Path(str(i)), tags=each, families=families or {}) for i, each in enumerate(tags)]


def test_one_folder_a_class(tmp_path: Path) -> None:
    root = _touch(tmp_path, "cat/1.mp4", "cat/more/2.mov", "dog/1.mp4", "dog/.hidden", ".cache/x.mp4", "readme.txt")
    rows = FolderSource(str(root)).rows()
    assert [(row.id, row.tags) for row in rows] == [
        ("cat/1.mp4", ("cat",)),
        ("cat/more/2.mov", ("cat",)),
        ("dog/1.mp4", ("dog",)),
    ]
    assert all(row.path == root / row.id for row in rows)


JUNK = (
    "@eaDir/cover.jpg", "cat/@eaDir/0.mp4/SYNOINDEX.mp4", "cat/0.vtt", "cat/0.srt", ".ipynb_checkpoints/x.mp4",
    "cat/.ipynb_checkpoints/0-checkpoint.mp4", "__MACOSX/cat/0.mp4", "cat/Thumbs.db", "cat/desktop.ini", "cat/._0.mp4",
    "$RECYCLE.BIN/x.mp4", "lost+found/x.mp4", "cat/.DS_Store", "cat/0.mp4.part", "cat/0.mp4:Zone.Identifier",
    "System Volume Information/x.mp4", "cat/0.npy", "cat/0.mp4~", "cat/__pycache__/x.pyc", "cat/0.MD", "#recycle/x.mp4",
)  # fmt: skip


def test_training_predicting_and_checking_look_at_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    media = ["cat/0.mp4", "cat/more/1.weird", "dog/[2024] x.mp4", "dog/no_suffix"]
    root = _touch(tmp_path / "set", *media, *JUNK)
    assert [row.id for row in FolderSource(str(root)).rows()] == media
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{root}: left out " in said
    assert "7 not media by its name" in said and "4 hidden" in said and "10 of the system" in said
    skipped: Counter[str] = Counter()
    listing = list_source(str(root))
    assert [entry.id for entry in listing.entries] == media
    assert [str(file.relative_to(root)) for file in list_files(root, skipped=skipped)] == media
    assert [item.path for item in list_media(root)] == [entry.path for entry in listing.entries]
    assert listing.skipped == skipped and sum(skipped.values()) == 21
    assert [entry.id for entry in list_source(f"{root}/**").entries] == media
    assert [str(path.relative_to(root)) for path in MediaIndex(root)] == ["dog/[2024] x.mp4", "cat/0.mp4"][::-1]


def test_loose_files_and_folders_without_media_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = _touch(tmp_path, "cat/1.mp4", "dog/1.mp4", "notes/readme.txt", "loose.mp4")
    assert len(FolderSource(str(root)).rows()) == 2
    said = capsys.readouterr().err
    assert "1 in no class folder" in said and "no media in notes" in said
    _touch(tmp_path / "b", "cat/1.txt")
    with pytest.raises(UsageError, match=r"no media in it \(left out: 1 not media by its name\)"):
        FolderSource(str(tmp_path / "b")).rows()


def test_folders_named_as_splits_hold_the_class_folders(tmp_path: Path) -> None:
    root = _touch(
        tmp_path, "train/cat/1.mp4", "train/dog/1.mp4", "Validation/cat/2.mp4", "test/dog/9.mp4", "test/x.txt"
    )
    rows = FolderSource(str(root)).rows()
    assert {(row.id, row.tags, row.split) for row in rows} == {
        ("train/cat/1.mp4", ("cat",), "train"),
        ("train/dog/1.mp4", ("dog",), "train"),
        ("Validation/cat/2.mp4", ("cat",), "val"),
        ("test/dog/9.mp4", ("dog",), "test"),
    }


def test_without_a_val_folder_a_part_of_train_is_held_out(tmp_path: Path) -> None:
    root = _touch(tmp_path, *(f"train/cat/{i}.mp4" for i in range(40)), "test/cat/t.mp4")
    assert {row.split for row in FolderSource(str(root)).rows()} == {"train", "val", "test"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    rows = FolderSource(str(_touch(tmp_path, "train/1.mp4", "car/1.mp4"))).rows()
    assert {row.tags for row in rows} == {("train",), ("car",)}


def test_a_manifest_comes_before_folders_and_can_be_named(tmp_path: Path) -> None:
    root = _touch(tmp_path, "cat/1.mp4")
    (root / "manifest.jsonl").write_text(json.dumps({"path": "cat/1.mp4", "tags": ["from jsonl"]}))
    (root / "other.csv").write_text("path,tags\ncat/1.mp4,from csv\n")
    assert FolderSource(str(root)).rows()[0].tags == ("from jsonl",)
    assert FolderSource(str(root), manifest="other.csv").rows()[0].tags == ("from csv",)


@pytest.mark.parametrize(
    ("make", "manifest", "says"),
    [
        (lambda root: root / "gone", None, "no such directory"),
        (lambda root: _touch(root, "file") / "file", None, "not a directory"),
        (lambda root: root, None, "empty"),
        (lambda root: _touch(root, "loose.mp4"), None, "only the file 'loose.mp4'; expected"),
        (lambda root: _touch(root, "1.mp4", "2.mp4"), None, "2 files but no class folder; .*move each file to .*CLASS"),
        (lambda root: _touch(root, "train/1.mp4", "val/2.mp4"), None, "2 files but no class folder"),
        (lambda root: _touch(root, "cat/1.mp4"), "mine.csv", "no such manifest"),
    ],
)
def test_a_root_that_holds_nothing_says_so(make, manifest: str | None, says: str, tmp_path: Path) -> None:
    root = make(tmp_path)
    with pytest.raises(UsageError, match=says) as error:
        FolderSource(str(root), manifest=manifest).rows()
    assert str(root) in str(error.value)


def test_a_row_keeps_its_split_when_others_come_and_go(tmp_path: Path) -> None:
    names = [f"cat/{i}.mp4" for i in range(400)]
    before = {row.id: row.split for row in FolderSource(str(_touch(tmp_path, *names))).rows()}
    for name in names[::3]:
        (tmp_path / name).unlink()
    _touch(tmp_path, *(f"dog/{i}.mp4" for i in range(100)))
    after = {row.id: row.split for row in FolderSource(str(tmp_path)).rows()}
    kept = before.keys() & after.keys()
    assert len(kept) > 200
    assert all(after[name] == before[name] for name in kept)
    assert 50 < list(before.values()).count("val") < 110, "a fifth, roughly"
    assert set(before.values()) == {"train", "val"}


def test_a_larger_validation_part_takes_from_training_alone(tmp_path: Path) -> None:
    root = str(_touch(tmp_path, *(f"cat/{i}.mp4" for i in range(60))))
    small, large = ({r.id for r in FolderSource(root, val_fraction=f).rows() if r.split == "val"} for f in (0.2, 0.5))
    assert small < large
    assert not [row for row in FolderSource(root, val_fraction=0.0).rows() if row.split == "val"]


def test_a_split_that_is_given_stays(tmp_path: Path) -> None:
    lines = [json.dumps({"path": f"{i}.mp4", "split": "test"}) for i in range(20)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    assert {row.split for row in FolderSource(str(tmp_path)).rows()} == {"test"}


def test_a_vocabulary_is_sorted_and_goes_round_through_json() -> None:
    rows = _rows(("red", "word/b"), ("beep", "word/a"), families={"red": "video", "gone": "audio"})
    vocabulary = TagVocabulary.from_rows(rows)
    assert vocabulary.names == ("beep", "red", "word/a", "word/b")
    assert vocabulary.families == {"red": "video"}
    assert vocabulary.groups() == {"word": (2, 3)}
    assert TagVocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


@pytest.mark.parametrize(
    ("tags", "groups"),
    [
        ([("word/a",), ("word/b",)], {"word": (0, 1)}),
        ([("word/a", "word/b"), ("word/b",)], {}),  # a clip with two
        ([("word/a",), ("word/b",), ()], {}),  # a clip with none
        ([("word/a",), ("word/a", "x")], {}),  # nothing to choose from
        ([("at/x", "word/a"), ("at/y", "word/b")], {"at": (0, 1), "word": (2, 3)}),
        ([("at/x", "word/a"), ("at/y",)], {"at": (0, 1)}),
        ([("cat",), ("dog",)], {"classes": (0, 1)}),  # one class a clip
        ([("cat",), ("dog", "cat")], {}),
        ([("cat",), ()], {}),
    ],
    ids=str,
)
def test_a_group_is_exclusive_when_every_clip_has_exactly_one_of_it(tags: list, groups: dict) -> None:
    assert TagVocabulary.from_rows(_rows(*tags)).groups() == groups


def test_tags_become_ones_in_their_places() -> None:
    vocabulary = TagVocabulary(("a", "b", "c"))
    assert vocabulary.encode(("c", "a")).tolist() == [1, 0, 1]
    assert vocabulary.encode(()).tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match="'d' was not seen"):
        vocabulary.encode(("d",))


def test_unseen_tags_are_named_most_frequent_first() -> None:
    vocabulary = TagVocabulary(("a",))
    vocabulary.check_known(_rows(("a",)), "val split")
    with pytest.raises(UsageError, match=r"val split: .*x \(2 clips\), y \(1 clip\);"):
        vocabulary.check_known(_rows(("y", "a"), ("x",), ("x",)), "val split")
    with pytest.raises(UsageError, match="and 2 more"):
        vocabulary.check_known(_rows(tuple(f"t{i}" for i in range(7))), "val split")


@pytest.mark.parametrize("tags", [[("cat",), ("cat",)], [("cat", "pet"), ("pet", "cat")]], ids=str)
def test_with_the_same_tags_on_every_clip_there_is_nothing_to_tell_apart(tags: list) -> None:
    with pytest.raises(UsageError, match=r"every training clip is tagged cat.*nothing to distinguish; add clips"):
        TagVocabulary.from_rows(_rows(*tags))


def test_without_any_tag_there_is_nothing_to_learn() -> None:
    with pytest.raises(UsageError, match="no training clip has tags"):
        TagVocabulary.from_rows(_rows((), ()))
