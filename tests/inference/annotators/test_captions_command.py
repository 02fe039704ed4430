"""The annotator captions on the command line, and what it refuses before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from caption_films import captions_by

from mmattn.cli.main import main
from mmattn.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # transformers' own


def test_the_command_captions_a_folder(
    captioner_of: Callable[[str], Path], cut_film: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("scenedetect")
    out = tmp_path / "out.jsonl"
    command = ["predict", "model=pretrained", "annotators=[captions,shots]", f"source={cut_film}", f"out={out}"]
    command += [f"captions.pretrained={captioner_of('gemma4')}", "captions.max_tokens=4", "captions.embeddings=none"]
    assert main(command) == 0, capsys.readouterr().err
    (record,) = map(json.loads, out.read_text().splitlines())
    shots = [[each["start"], each["end"]] for each in record["captions"] if each["level"] == "shot"]
    assert shots == [shot if shot[1] < 26 else [shot[0], pytest.approx(26, abs=0.1)] for shot in record["shots"]]


def test_what_cannot_be_is_one_line_before_anything_is_read(
    captioner_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip"}')
    given, here = f"captions.pretrained={captioner_of('gemma4')}", "captions.endpoint=http://127.0.0.1:9/v1"
    for arguments, says in (
        ([], "hf download"),
        (["captions.pretrained=nowhere"], "no such folder; for a name on the hub set hub=true"),
        (["captions.pretrained=clip"], "holds a 'clip' model; expected qwen2_5_omni"),
        ([given, here], "give either captions.pretrained= or"),
        ([given, "captions.by=scenes"], "expected shots or windows"),
        ([given, "captions.dtype=int4"], "expected auto or bf16"),
        ([given, "captions.levels=[shots,acts]"], "expected some of shots, chapters, summary"),
        ([given, "captions.fps=0"], "captions.fps=0: expected a number above 0"),
        ([given, "captions.longest_side=-1"], "captions.longest_side=-1: expected 0 or more"),
        ([given, "captions.embeddings=nowhere"], "captions.embeddings=nowhere: expected auto"),
        (["captions.endpoint=ftp://x/v1"], "expected an address such as http://127.0.0.1:8000/v1"),
        (["captions.endpoint=http://example.com/v1"], "captions.remote=true"),
        (["captions.endpoint=http://127.0.0.1.example.com/v1"], "captions.remote=true"),
        ([here, "captions.key_env=NO_SUCH_KEY"], "no such variable in the environment"),
    ):
        assert main(["predict", "model=pretrained", "annotators=[captions]", "source=a.mp4", *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, (arguments, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "clip"]


def test_a_folder_without_its_chat_template_is_refused(captioner_of: Callable[[str], Path], tmp_path: Path) -> None:
    for file in captioner_of("gemma4").iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UsageError, match="has no chat_template"):
        captions_by(tmp_path)
