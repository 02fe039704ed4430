"""What docs/media.md shows runs as it stands, and its tables name every reason, issue, argument and limit."""

import inspect
import re
import tarfile
from dataclasses import fields
from pathlib import Path

import pytest
from media_clips import movie

from mmattn.errors import MEDIA_REASONS
from mmattn.media import Limits, read_clip

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "media.md").read_text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    movie(tmp_path / "clip.mp4")
    (tmp_path / "notes.mp4").write_text("no film")
    with tarfile.open(tmp_path / "library.tar", "w") as library:
        library.add(tmp_path / "clip.mp4", "clip.mp4")
    monkeypatch.chdir(tmp_path)
    blocks, names = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), {}
    for block in blocks:
        exec(compile(block, "docs/media.md", "exec"), names)
    assert len(blocks) == 5 and names["clip"].frames is not None
    assert "notes.mp4 not_media" in capsys.readouterr().out


def test_the_tables_are_whole():
    told = set(re.findall(r"`([a-z_]+)", PAGE))
    said = {
        issue
        for path in (ROOT / "src/mmattn/media").rglob("*.py")
        for issue in re.findall(r'issues(?:\.add\(| \|= \{| = \[)"([a-z_]+)"', path.read_text())
    }
    assert len(said) > 10
    assert said | set(MEDIA_REASONS) | {field.name for field in fields(Limits)} <= told
    assert set(inspect.signature(read_clip).parameters) - {"src"} <= told
