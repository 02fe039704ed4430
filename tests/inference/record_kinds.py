"""Records of all kinds: of trained models, of annotators, of files that failed; and random ones of every key."""

from __future__ import annotations

import random
from typing import Any

Record = dict[str, Any]

TRAINED: Record = {
    "id": "a.mp4",
    "path": "/films/a.mp4",
    "status": "ok",
    "tags": [
        {"tag": "dog", "score": 0.9, "video": 0.4, "audio": -0.1, "synergy": 0.0},
        {"tag": "rain", "score": 0.6, "video": 0.0, "audio": 0.5, "synergy": 0.1, "segments": [[0.0, 1.5], [2.0, 3.0]]},
    ],
    "captions": [
        {
            "start": 0.0,
            "end": 1.5,
            "text": "a dog barks",
            "score": -0.5,
            "words": [
                {"word": "a", "video": 0.1, "audio": -0.2, "synergy": 0.0, "attention": 0.5},
                {"word": "dog", "video": 0.1, "audio": -0.2, "synergy": 0.0},
            ],
        }
    ],
    "modality": {
        "used": ["video", "audio"],
        "shapley": {"video": 0.2, "audio": 0.2},
        "attention": {"audio": 0.4, "prior": 0.5},
    },
    "spans": [[0.0, 3.0]],
    "issues": ["late_audio"],
}
ANNOTATED: Record = {
    "id": "talk.mp4",
    "path": "/films/talk.mp4",
    "status": "ok",
    "tags": [
        {"tag": "Speech", "score": 0.95, "modality": "audio", "video": 0.0, "audio": 0.95, "synergy": 0.0}
        | {"segments": [[0.0, 6.0]], "from": "sounds"},
        {"tag": "Bark", "score": 0.8, "modality": "audio", "video": 0.0, "audio": 0.8, "synergy": 0.0}
        | {"segments": [[7.0, 9.0]], "from": "sounds"},
        {"tag": "suit, suit of clothes", "score": 0.5, "from": "things"},
    ],
    "captions": [{"start": 0.0, "end": 9.0, "text": "a person talks, then a dog barks", "from": "captions"}],
    "transcript": [
        {
            "start": 0.5,
            "end": 2.0,
            "text": " Good evening, everyone.",
            "words": [
                {"start": 0.5, "end": 0.9, "word": " Good", "probability": 0.9},
                {"start": 0.9, "end": 1.4, "word": " evening,", "probability": 0.8},
                {"start": 1.4, "end": 2.0, "word": " everyone."},
            ],
            "language": "en",
        },
        {"start": 4.0, "end": 6.0, "text": "This one has no words with times."},
    ],
    "shots": [[0.0, 4.0], [4.0, 9.0]],
    "texts": [{"start": 1.0, "end": 3.0, "text": "EXIT"}],
    "modality": {"used": ["video", "audio"], "shapley": None, "attention": None},
    "spans": [[0.0, 9.0]],
    "issues": [],
    "versions": {"speech": "faster-whisper 1.2.1, tiny.en", "sounds": "yamnet 1", "things": "efficientnet_lite0"},
    "used": {"speech": ["audio"], "sounds": ["audio"], "things": ["video"]},
}
NOTHING_FOUND: Record = {
    **{key: ANNOTATED[key] for key in ("path", "status")},
    "tags": [],
    "captions": [],
    "transcript": [],
    "shots": [],
    "texts": [],
    "modality": {"used": [], "shapley": None, "attention": None},
    "spans": [],
    "issues": [],
    "versions": {},
    "used": {"speech": []},
}
FAILED: Record = {"id": "bad.mp4", "path": "/films/bad.mp4", "status": "failed", "reason": "not_media", "detail": "@x"}
KINDS = {"trained": TRAINED, "annotated": ANNOTATED, "nothing found": NOTHING_FOUND, "failed": FAILED}


def drawn(told: Record, draw: random.Random, whole: Record | None = None) -> Any:
    """A random value that a JSON Schema allows: every key and every absence comes."""
    whole = whole or told
    if "$ref" in told:
        return drawn(whole["$defs"][told["$ref"].rpartition("/")[2]], draw, whole)
    if "enum" in told:
        return draw.choice(told["enum"])
    kind = draw.choice(told["type"]) if isinstance(told["type"], list) else told["type"]
    if kind == "array":
        count = draw.randint(told.get("minItems", 0), told.get("maxItems", 3))
        items = [drawn(told["items"], draw, whole) for _ in range(count)]
        return list(dict.fromkeys(items)) if told.get("uniqueItems") else items
    if kind == "object":
        named = told.get("properties")
        if named is None:
            return {f"name {k}": drawn(told["additionalProperties"], draw, whole) for k in range(draw.randint(0, 2))}
        required = told.get("required", ())
        return {
            name: drawn(each, draw, whole) for name, each in named.items() if name in required or draw.random() < 0.6
        }
    if kind == "number":
        return round(draw.uniform(told.get("minimum", -9), told.get("maximum", 99)), 3)
    return None if kind == "null" else "".join(draw.choices('ab ,;"<&>\n\u05e9\U0001f415\x00', k=draw.randint(0, 9)))


def drawn_record(told: Record, draw: random.Random) -> Record:
    """A random record: as `then` or `else` of the schema asks."""
    record = drawn({**told, "required": [*told["properties"]]}, draw, told)
    if record["status"] == "failed":
        return {name: record[name] for name in ("id", "path", "status", "reason", "detail")}
    optional = [name for name in record if name not in (*told["required"], *told["then"]["required"])]
    left_out = {"reason", "detail", *(name for name in optional if draw.random() < 0.4)}
    return {name: value for name, value in record.items() if name not in left_out}
