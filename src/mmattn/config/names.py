"""Names on the command line: files, folders, labels. They are text whatever they look like, and Hydra never reads them.

Hydra's grammar takes `true`, `1e3`, `[2024] x.mp4`, `a=b` or `José#1` for something else or for nothing at all. So a
key that holds a name is composed with a stand-in, and the name is put in its place afterwards, where the stand-in
came to (`${data.root}` takes it to other keys). A list of names is `[a,b]`; `'...'` or `"..."` around one of them
keeps its commas.

This module needs no torch.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

# The last part of keys that hold a name though their default is none, or refers to another key.
NAMES = frozenset(
    (
        *("run", "resume", "sweep", "init_from", "source", "out", "job", "root", "folder", "videos", "python"),
        *("weights", "pretrained", "prompts", "predictions", "annotations", "manifest", "checked", "tracks", "burn_in"),
        *("tag", "tags", "model", "metric", "baseline", "entity", "partition", "address", "kind", "language"),
        *("library", "query", "index", "group", "notes", "uri", "from", "embeddings", "evaluate", "budget"),
        *("endpoint", "key_env", "device_map"),
    )
)
LISTS = frozenset(("runs", "files", "factors", "classes", "annotators"))  # of names, or one name
_FILES = re.compile(r"data\.source\.files\.\w+")


def key_and_value(text: str) -> tuple[str, str]:
    """`++key=value` as ("key", "value")."""
    key, _, value = text.partition("=")
    return key.lstrip("+"), value


def is_name(key: str) -> bool:
    """By the key alone. A key whose default is text holds text, too."""
    return key.rpartition(".")[2] in NAMES | LISTS or _FILES.fullmatch(key) is not None


def as_text(key: str, value: str, default: Any) -> str | list[str] | None:
    """What `key=value` says where the key holds text, else None: it is for Hydra to read.

    null leaves an optional name out; where a name is needed, or there is one already, it is a name as any other.
    """
    if isinstance(default, (bool, int, float)):
        return None
    named = is_name(key)
    if value == "null" and (default is None or not (named or default == "???")):
        return None
    if value[:1] == "[" and value[-1:] == "]" and (_are_texts(default) or key.rpartition(".")[2] in LISTS):
        return split(value[1:-1])
    if _are_texts(default) and key.rpartition(".")[2] not in LISTS:
        return [value]  # modalities=video
    text = isinstance(default, str) and "${" not in default
    return value if text or named or _are_texts(default) else None


def _are_texts(default: Any) -> bool:
    return isinstance(default, list) and bool(default) and all(isinstance(item, str) for item in default)


_ITEM = re.compile(r"""\s*(?:'((?:\\'|[^'])*)'|"((?:\\"|[^"])*)"|([^,]*))\s*(?:,|$)""", re.DOTALL)


def split(text: str) -> list[str]:
    """The names between commas, without blanks and quotes around them: a, 'b, c' are two."""
    names, at = [], 0
    while at < len(text):
        found = _ITEM.match(text, at)
        if not found:  # text after a closing quote: the quotes are part of the name
            end = text.find(",", at)
            names.append(text[at : end if end >= 0 else None].strip())
            at = end + 1 if end >= 0 else len(text)
            continue
        single, double, bare = found.groups()
        quoted = single.replace("\\'", "'") if single is not None else (double or "").replace('\\"', '"')
        names.append(bare.strip() if bare is not None else quoted)
        at = found.end()
    return names


def choices(text: str) -> list[str] | None:
    """`key=a,b` of a sweep as key=a and key=b, without quotes; None where the key holds no name, or a list of them."""
    key, value = key_and_value(text)
    if not is_name(key) or key.rpartition(".")[2] in LISTS:
        return None
    return [f"{key}={name}" for name in split(value)] or [text]


class StandIns:
    """Words that Hydra reads as they are, each for one name."""

    def __init__(self) -> None:
        self._prefix = f"name{secrets.token_hex(8)}x"
        self._texts: list[str | list[str]] = []

    def of(self, text: str | list[str]) -> str:
        self._texts.append(text)
        return f"{self._prefix}{len(self._texts) - 1}x"

    def replace(self, node: Any) -> Any:
        """A config with the names in their places."""
        if isinstance(node, Mapping):
            return {key: self.replace(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.replace(value) for value in node]
        if not isinstance(node, str) or self._prefix not in node:
            return node
        for number, text in enumerate(self._texts):
            if node == f"{self._prefix}{number}x":
                return text
        return re.sub(f"{self._prefix}([0-9]+)x", lambda found: str(self._texts[int(found[1])]), node)
