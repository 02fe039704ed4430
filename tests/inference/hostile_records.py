"""Records with texts that no format may take for its own syntax."""

from __future__ import annotations

from pathlib import Path

from mmattn.config.compose import build, read_choice

HOSTILE = [
    "00:00:01.000 --> 00:00:09.000",
    "00:00:01,000 00:00:09,000",
    "a --> b\n\nNOTE x\n\n00:00:05.000 --> 00:00:06.000\nforged",
    "<script>alert(1)</script> & <b>bold</b> &lt;",
    "{\\an8}up \\N down {\\pos(1,1)}",
    "12",
    "WEBVTT",
    "STYLE ::cue { color: red }",
    "\u05e9\u05dc\u05d5\u05dd \u200f\u202eeman\u202c \u2067x\u2069",
    "\U0001f415\u200d\U0001f9ba emoji \u2028 and \u2029 separators \x85",
    "bell \x07 nul \x00 escape \x1b[31m cr \r feed \x0c",
    "=HYPERLINK(1)",
    "\udcff lone \ud800",
    " ",
    "---",
]
CHANGED = str.maketrans("\u2039\u203a\u2236", "<>:")


def record(name: str, *captions: str, path: str | None = None, **more) -> dict:
    words = [{"word": "x", "video": 0.1, "audio": -0.2, "synergy": 0.0, "attention": 0.5}]
    return {
        "id": name,
        "path": path or f"/films/{name}",
        "status": "ok",
        "tags": [{"tag": "dog", "score": 0.9, "video": 0.4, "audio": -0.1, "synergy": 0.0}],
        "captions": [
            {"start": 2.0 * i, "end": 2.0 * i + 1.5, "text": text, "score": -0.5, "words": words}
            for i, text in enumerate(captions)
        ],
        "modality": {"used": ["video"], "shapley": {"video": 0.4, "audio": -0.1}, "attention": None},
        "spans": [[0.0, 3.0]],
        "issues": [],
        **more,
    }


FAILED = {"id": "bad.mp4", "path": "/films/bad.mp4", "status": "failed", "reason": "not_media", "detail": "@x"}


def style(name: str):
    return build(read_choice("format", name))


def written(name: str, records: list[dict], tmp_path: Path) -> Path:
    style(name).write(iter(records), tmp_path / "part")
    return tmp_path / "part"


def plain(text: str) -> list[str]:
    """What is left of a text when everything that a format may change is left out."""
    return [c for c in text if c.isalnum() and ord(c) < 0xD800]
