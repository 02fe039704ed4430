"""Everything that a predict command writes from the records of its job. It is written again only if it would change."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmattn.config.compose import Config, build, group_choices, read_choice
from mmattn.errors import UsageError
from mmattn.files import beside, check_output, check_writable, expanded, folder_beside, followed, write_atomically
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import reaches
from mmattn.inference.writers.interface import FileFormat, FolderFormat, TrackFormat
from mmattn.inference.writers.subtitles.tracks import Tracks, check_beside
from mmattn.text import clean, counted

if TYPE_CHECKING:
    from mmattn.inference.writers.burn_in import BurnIn

_WRITTEN = "written.json"  # in the job: the settings of the output, once it is complete
_TRACKS = "tracks.sqlite"
_KEYS = ("format", "tracks", "track_format", "overwrite_tracks", "burn_in", "burn_in_height")


@dataclass(frozen=True)
class Output:
    """`out`: a file or folder in the format `style`. `tracks`, `burn_in`: what is written besides.

    `reading`: arguments of the reader for `burn_in`. `settings`: all that the output depends on besides the records.
    """

    out: Path
    style: FileFormat | FolderFormat | TrackFormat
    tracks: Tracks | None
    burn_in: BurnIn | None
    reading: dict[str, Any]
    settings: dict[str, Any]

    def check(self, sources: Sequence[Path]) -> None:
        """Raise UsageError, before any work, for a place that cannot be written. `sources`: paths of the media."""
        if isinstance(self.style, FileFormat):
            check_output(self.out, f"out={self.out}")
        else:
            check_writable(self.out if isinstance(self.style, TrackFormat) else self.out.parent, f"out={self.out}")
        if self.burn_in is not None:
            if members := [source for source in sources if source.suffix.lower() == ".tar"]:
                raise UsageError(f"{clean(str(members[0]))}: burn_in= reads files, not members of a tar")
            check_writable(self.burn_in.folder, f"burn_in={self.burn_in.folder}")
        if self.tracks is not None and self.tracks.folder is not None:
            check_writable(self.tracks.folder, f"tracks={self.tracks.folder}")
        elif self.tracks is not None:
            folders: dict[Path, None] = {}
            for source in sources:
                check_beside(source)
                folders[source.parent] = None
            for folder in folders:
                if folder.is_dir():  # nothing is written for a file that does not exist
                    check_writable(folder, "tracks=beside")

    def is_written(self, job: Job, removed: frozenset[str]) -> bool:
        """Whether the output is complete, for the same settings and removed files."""
        try:
            written = json.loads((job.root / _WRITTEN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return written == self._stamp(removed) and self.out.exists()

    def _stamp(self, removed: frozenset[str]) -> dict[str, Any]:
        """What the output depends on besides the records."""
        left_out = hashlib.sha256("\0".join(sorted(removed)).encode("utf-8", "surrogateescape")).hexdigest()
        return {**self.settings, **({"gone": left_out} if removed else {})}

    def forget(self, job: Job) -> None:
        """Mark the output as out of date, before records change."""
        (job.root / _WRITTEN).unlink(missing_ok=True)

    def write(self, job: Job, removed: frozenset[str]) -> list[str]:
        """Write all records except those of the ids `removed`; returns notes for the summary.

        Raises UsageError if the output cannot be written, MmattnError for its tracks.
        """
        self.forget(job)
        notes = []
        try:
            if isinstance(self.style, TrackFormat):
                self.out.mkdir(parents=True, exist_ok=True)
                tracks = Tracks(self.style, self.out.absolute(), bool(self.settings["overwrite_tracks"]))
                notes += _write_tracks(tracks, job, removed)
            else:
                with (beside if isinstance(self.style, FileFormat) else folder_beside)(self.out) as part:
                    self.style.write(job.records(removed), part)
        except OSError as error:
            raise UsageError(
                f"{self.out}: cannot be written ({error.strerror}); the records are in {job.root}"
            ) from None
        if self.tracks is not None:
            notes += _write_tracks(self.tracks, job, removed)
        if self.burn_in is not None:
            from mmattn.media.isolate.reader import IsolatedReader

            with IsolatedReader(**self.reading) as reader:
                notes += _notes(
                    self.burn_in.write(job.records(removed), job.root / _TRACKS, reader), "video with text drawn in"
                )
        write_atomically(job.root / _WRITTEN, json.dumps(self._stamp(removed), indent=1).encode())
        return notes


def _write_tracks(tracks: Tracks, job: Job, removed: frozenset[str]) -> list[str]:
    notes = _notes(tracks.write(job.records(removed), job.root / _TRACKS))
    counts = tracks.write(job.records(removed), job.root / _TRACKS, "descriptions")
    del counts["nothing"]  # already counted for the subtitles
    return notes + (_notes(counts, "track of descriptions") if counts else [])


def output_of(config: Config) -> Output:
    """The output that a command asks for. Raises UsageError for settings that cannot be written."""
    style = build(config["format"])
    is_file = isinstance(style, FileFormat)
    if not isinstance(style, TrackFormat):
        style.check()
    name = config["out"] if config["out"] is not None else f"predictions{style.suffix if is_file else ''}"
    out = followed(expanded(str(name)))
    if is_file and out.is_dir():
        raise UsageError(f"{name}: is a directory; out= names the file to write")
    if not is_file and out.exists() and not out.is_dir():
        what = f"{style.suffix} tracks" if isinstance(style, TrackFormat) else " and ".join(style.names)
        raise UsageError(f"{name}: is a file; out= names the folder for the {what}")
    there = {path.name for path in out.iterdir()} if isinstance(style, FolderFormat) and out.is_dir() else set()
    if isinstance(style, FolderFormat) and (others := sorted(there.difference(style.names))):
        raise UsageError(f"{name}: holds {clean(others[0])}, which the format does not write; name a new folder")
    if other := _other(out.suffix, style):
        kind = f"a {style.suffix} file" if is_file else f"a folder of {style.suffix or 'its own'} files"
        raise UsageError(f"out={name}: the format writes {kind}; add format={other}, or give it another suffix")
    settings = {"out": str(out.absolute()), **{key: config[key] for key in _KEYS}}
    reading = {name: config[name] for name in ("deadline_s", "follow_symlinks")}
    return Output(out, style, _tracks(config), _burn_in(config), reading, settings)


def _other(suffix: str, style: FileFormat | FolderFormat | TrackFormat) -> str | None:
    """The format that a suffix belongs to, if it is not the one that is written.

    A suffix may belong to none (`tags`, `tags.txt`), and JSON Lines are often called .json.
    """
    styles = {name: build(read_choice("format", name)) for name in group_choices("format")}
    matching = [name for name, each in styles.items() if suffix and each.suffix == suffix.lower()]
    fits = style.suffix == suffix.lower() or (style.suffix, suffix.lower()) == (".jsonl", ".json")
    return None if fits or not matching else matching[0]


def _tracks(config: Config) -> Tracks | None:
    name = str(config["track_format"])
    styles = [each for each in group_choices("format") if isinstance(build(read_choice("format", each)), TrackFormat)]
    if name not in styles:
        raise UsageError(f"track_format={name}: expected {' or '.join(styles)}")
    if config["tracks"] is None:
        return None
    where = str(config["tracks"])
    folder = None if where == "beside" else expanded(where).absolute()
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"tracks={where}: expected beside, or a folder")
    return Tracks(build(read_choice("format", name)), folder, bool(config["overwrite_tracks"]))


def _burn_in(config: Config) -> BurnIn | None:
    if config["burn_in"] is None:
        return None
    from mmattn.inference.writers.burn_in import BurnIn

    folder = expanded(str(config["burn_in"])).absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"burn_in={config['burn_in']}: is a file; name a folder")
    if reaches(str(config["source"]), folder):
        raise UsageError(
            f"burn_in={config['burn_in']}: lies in the source, which would then contain it; name another folder"
        )
    return BurnIn(folder, int(config["burn_in_height"]), bool(config["overwrite_tracks"]))


def _notes(counts: Counter[str], what: str = "track") -> list[str]:
    """Counts as notes for the summary. `what`: a noun, and after a space its complement."""
    noun, blank, rest = what.partition(" ")
    notes = [counted(counts["written"], noun) + blank + rest]
    if counts["nothing"]:
        notes.append(f"{counted(counts['nothing'], 'file')} with nothing to show over time")
    if counts["unreadable"]:
        notes.append(f"{counted(counts['unreadable'], 'file')} can no longer be read")
    if counts["kept"]:
        notes.append(f"{counted(counts['kept'], noun)} of others kept; overwrite_tracks=true replaces them")
    return notes
