"""AudioSet (Gemmeke et al., ICASSP 2017): ten seconds of a video each, with any of 527 sound classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import Line, csv_lines, entries, read_json
from mmattn.errors import UsageError

LABELS, ONTOLOGY = "class_labels_indices.csv", "ontology.json"


@dataclass(frozen=True, kw_only=True)
class AudioSetSource(AnnotatedSource):
    """`segments`: the files to read, one with "eval" in its name as the test split; those that are absent are left out.

    Labels become names by class_labels_indices.csv or ontology.json; `ancestors` adds the more general labels above
    each, which takes ontology.json.
    """

    name: ClassVar[str] = "AudioSet"

    media: Sequence[str] = ("{id}_{start}", "{id}_{start_ms}_{end_ms}", "{id}_{start:06d}", "{id}", "Y{id}")
    segments: Sequence[str] = field(
        default=("balanced_train_segments.csv", "unbalanced_train_segments.csv", "eval_segments.csv")
    )
    ancestors: bool = False

    def clips(self) -> Iterator[AnnotatedClip]:
        folder = self.annotation_folder
        files = [folder / name for name in self.segments if (folder / name).is_file()]
        if not files:
            raise UsageError(f"{folder}: none of {', '.join(self.segments)}; set data.source.annotations or .segments")
        names = self._names(folder)
        above = _ancestors(folder / ONTOLOGY) if self.ancestors else {}
        for file in files:
            split = "test" if "eval" in file.name else "train"
            for line in csv_lines(
                file, ("YTID", "start_seconds", "end_seconds", "positive_labels"), False, comment="#"
            ):
                yield self._clip(line, split, names, above)

    def _clip(
        self, line: Line, split: str, names: Mapping[str, str], above: Mapping[str, Sequence[str]]
    ) -> AnnotatedClip:
        video, start, end = line.name(0), line.seconds(1), line.seconds(2)
        if end <= start:
            raise line.fault(f"end {end} s is not after start {start} s")
        labels = [label.strip() for label in line.cells[3].split(",") if label.strip()]
        if unknown := [label for label in labels if label not in names]:
            raise line.fault(f"label {unknown[0]!r} is in none of {LABELS} and {ONTOLOGY}")
        labels += [upper for label in labels for upper in above.get(label, ())]
        times = {"start": int(start), "end": int(end), "start_ms": round(1000 * start), "end_ms": round(1000 * end)}
        tags = tuple(dict.fromkeys(names[label] for label in labels))
        return AnnotatedClip(
            f"{video}_{int(start)}", {"id": video, **times}, tags, split=split, span=(start, end), group=video
        )

    def _names(self, folder: Path) -> dict[str, str]:
        """Machine id -> name. The ontology knows labels that the 527 classes leave out."""
        names: dict[str, str] = {}
        if (folder / ONTOLOGY).is_file():
            for entry, _ in entries(read_json(folder / ONTOLOGY), str(folder / ONTOLOGY), id=str, name=str):
                names[entry["id"]] = entry["name"]
        if (folder / LABELS).is_file():
            for line in csv_lines(folder / LABELS, ("index", "mid", "display_name"), True):
                names[line.cells[1]] = line.cells[2]
        if not names:
            raise UsageError(f"{folder}: neither {LABELS} nor {ONTOLOGY}, which contain the names of the labels")
        return names


def _ancestors(path: Path) -> dict[str, list[str]]:
    """Machine id -> those of all labels above it, nearest first. A label may have several parents."""
    parents: dict[str, list[str]] = {}
    for entry, _ in entries(read_json(path), str(path), id=str, child_ids=list):
        for child in entry["child_ids"]:
            parents.setdefault(str(child), []).append(entry["id"])
    found: dict[str, list[str]] = {}
    for label in parents:
        above = dict.fromkeys(parents[label])
        queue = list(above)
        while queue:
            fresh = [each for each in parents.get(queue.pop(0), ()) if each not in above and each != label]
            above |= dict.fromkeys(fresh)
            queue += fresh
        found[label] = list(above)
    return found
