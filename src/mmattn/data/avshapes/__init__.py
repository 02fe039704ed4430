"""AVShapes: a generated set of MP4 files whose tags are known to need video, audio, either or both.

Deterministic in (seed, index). See `scene` for why a synergistic tag cannot be read from one modality alone.
"""

from mmattn.data.avshapes.audio import render_audio
from mmattn.data.avshapes.scene import Scene, describe
from mmattn.data.avshapes.video import render_video
from mmattn.data.avshapes.words import FAMILIES, caption, tags
from mmattn.data.avshapes.write import make_avshapes, manifest_row, render

__all__ = [
    "FAMILIES",
    "Scene",
    "caption",
    "describe",
    "make_avshapes",
    "manifest_row",
    "render",
    "render_audio",
    "render_video",
    "tags",
]
