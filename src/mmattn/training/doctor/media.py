"""Codecs of FFmpeg, and how decoders are confined."""

from __future__ import annotations

from collections.abc import Iterator

from mmattn.training.doctor.finding import MachineFinding


def codecs() -> Iterator[MachineFinding]:
    """FFmpeg decodes and encodes the usual codecs."""
    from mmattn.media.open.codecs import ffmpeg_version, missing_codecs

    read, written = missing_codecs()
    for names, does in ((read, "decode"), (written, "encode")):
        if names:
            fix = "pip install --force-reinstall --only-binary :all: av"
            yield MachineFinding("problem", "codecs", f"cannot {does} {', '.join(names)}", fix)
    if not read and not written:
        yield MachineFinding("ok", "codecs", f"libavcodec {ffmpeg_version()} reads and writes all the usual ones")


def decoders() -> Iterator[MachineFinding]:
    """What a decoder that was exploited by a file could still do, tried out in a decoder process."""
    from mmattn.media import IsolatedReader

    with IsolatedReader() as reader:
        told = reader.sandbox()
    held = f"held by {', '.join(told.layers) or 'limits on memory and time alone'}"
    if free := [what for what, refused in told.refused.items() if not refused]:
        yield MachineFinding("note", "sandbox", f"this system lets a decoder {', '.join(free)}; {held}")
    else:
        yield MachineFinding("ok", "sandbox", f"a decoder cannot {', '.join(told.refused)}; {held}")
