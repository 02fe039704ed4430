"""How much of the training media is seen: files are often longer than the clips that are cut from them."""

from __future__ import annotations

from mmattn.data.load.clip_data import ClipData
from mmattn.errors import MediaError

LOOKED_AT = 32  # files whose headers are read, evenly spread
ENOUGH = 0.95  # of the media: nothing needs to be said


def media_used(data: ClipData) -> str | None:
    """A line for a person where clips leave out some of the files; None where they are seen whole."""
    rows = data.rows["train"]
    lengths = []
    for row in rows[:: -(-len(rows) // LOOKED_AT)]:
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
        f"media is {at_once} seen ({len(lengths)} files looked at); {more} changes that"
    )
