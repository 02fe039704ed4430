"""The share of the training media that is used: files are often longer than the clips cut from them."""

from __future__ import annotations

from mmattn.data.load.clip_data import ClipData
from mmattn.errors import MediaError

SAMPLED = 32  # files whose headers are read, evenly spread
ENOUGH = 0.95  # of the media: nothing is reported


def media_used(data: ClipData) -> str | None:
    """A message where clips use only a part of the files; None where they use all."""
    rows = data.rows["train"]
    lengths = []
    for row in rows[:: -(-len(rows) // SAMPLED)]:
        try:
            end = row.end if row.end is not None else data.reader.header(row.media).duration
        except MediaError:
            continue
        if end is not None and end > row.start:
            lengths.append(end - row.start)
    if not lengths or (share := sum(min(data.clip.seconds, s) for s in lengths) / sum(lengths)) >= ENOUGH:
        return None
    part = {"first": "the first", "center": "the middle", "random": "any"}[data.span]
    more = "data.clip.seconds=" if data.span == "random" else "data.span=random or data.clip.seconds="
    mean = sum(lengths) / len(lengths)
    at_once = "in an epoch" if data.span == "random" else "ever"
    return (
        f"clips are {part} {data.clip.seconds:g} s of files of {mean:.3g} s on average: {100 * share:.0f} % of the "
        f"media is {at_once} used (measured on {len(lengths)} files); {more} changes that"
    )
