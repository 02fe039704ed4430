"""The tokenizer of a caption decoder with a language model."""

from __future__ import annotations

from collections.abc import Iterable

from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.encoders.pretrained.weights import locate, read_json
from mmattn.errors import UsageError

_WANTED = "the config.json, tokenizer.json and *.safetensors of a language model into one folder"


def caption_tokenizer(
    captions: Iterable[str], pretrained: str | None, hub: bool, size: int, lowercase: bool
) -> CaptionTokenizer:
    """The tokenizer in the folder of the language model, or byte-level BPE learned from `captions`.

    Raises UsageError.
    """
    if pretrained is None:
        return CaptionTokenizer.learn(captions, "bpe", size, lowercase)
    folder = locate(pretrained, hub, _WANTED)
    file, config = folder / "tokenizer.json", read_json(folder / "config.json")
    if not file.is_file():
        raise UsageError(f"{folder}: no tokenizer.json in this folder; download {_WANTED}")
    eos = config.get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) else eos
    marks = {"eos": eos, "bos": eos if config.get("bos_token_id") is None else config["bos_token_id"]}
    record = {"definition": file.read_text(encoding="utf-8"), "kind": "bpe", "pad": eos, "lowercase": False, **marks}
    try:
        return CaptionTokenizer.from_dict(record)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{folder}: its tokenizer cannot be used ({error})") from None
