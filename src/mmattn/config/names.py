"""Names on the command line (files, folders, labels), which are text whatever they look like. No torch.

Hydra's grammar would parse `true`, `1e3`, `[2024] x.mp4`, `a=b` or `José#1` as something else, or fail. So a key that
holds a name is composed with a placeholder, which is replaced by the name afterwards, also in keys that refer to it
(`${data.root}`). A list of names is `[a,b]`; quotes around a name (`'...'` or `"..."`) keep its commas.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

# Last parts of keys that hold a name although their default is null or a reference.
NAMES = frozenset(
    (
        *("run", "resume", "sweep", "init_from", "source", "out", "job", "root", "folder", "videos", "python"),
        *("weights", "pretrained", "prompts", "predictions", "annotations", "manifest", "checked", "tracks", "burn_in"),
        *("tag", "tags", "model", "metric", "baseline", "entity", "partition", "address", "kind", "language"),
        *("library", "query", "index", "group", "notes", "uri", "from", "embeddings", "evaluate", "budget"),
        *("endpoint", "key_env", "device_map"),
    )
)
LISTS = frozenset(("runs", "files", "factors", "classes", "annotators"))  # keys of a list of names, or of one name
_FILES = re.compile(r"data\.source\.files\.\w+")


def key_and_value(text: str) -> tuple[str, str]:
    """`++key=value` as ("key", "value")."""
    key, _, value = text.partition("=")
    return key.lstrip("+"), value


def is_name(key: str) -> bool:
    """Whether the key holds a name. Keys whose default is text hold text too."""
    return key.rpartition(".")[2] in NAMES | LISTS or _FILES.fullmatch(key) is not None


def as_text(key: str, value: str, default: Any) -> str | list[str] | None:
    """The value as text, or as a list of texts, where the key holds text; None where Hydra has to parse it.

    null unsets an optional name; where the default is a name, or one is required, it is a name itself.
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
    """Split at commas outside quotes, and strip blanks and quotes: a, 'b, c' are two names."""
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


def joined(names: Iterable[str]) -> str:
    """Names as a list on the command line, `[a,'b, c']`: what `split` takes apart again."""
    return f"[{','.join(map(_quoted, names))}]"


def _quoted(name: str) -> str:
    plain = name == name.strip() and name and "," not in name and name[0] not in "'\""
    return name if plain else "'" + name.replace("'", "\\'") + "'"


def choices(text: str) -> list[str] | None:
    """`key=a,b` of a sweep as key=a and key=b, without quotes; None where the key does not hold one name."""
    key, value = key_and_value(text)
    if not is_name(key) or key.rpartition(".")[2] in LISTS:
        return None
    return [f"{key}={name}" for name in split(value)] or [text]


class Placeholders:
    """Placeholders for names, which Hydra parses as plain words."""

    def __init__(self) -> None:
        self._prefix = f"name{secrets.token_hex(8)}x"
        self._texts: list[str | list[str]] = []

    def of(self, text: str | list[str]) -> str:
        """A new placeholder for `text`."""
        self._texts.append(text)
        return f"{self._prefix}{len(self._texts) - 1}x"

    def replace(self, node: Any) -> Any:
        """A config with the placeholders replaced by their names."""
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
