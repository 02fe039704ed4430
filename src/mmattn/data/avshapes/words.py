"""The labels of a scene: its tags, each with a family that gives the modality it needs, and its caption."""

from __future__ import annotations

from mmattn.data.avshapes.scene import COLOURS, PITCHES, SHAPES, TIMBRES, Scene, Thing

FAMILIES: dict[str, str] = {
    **{f"colour/{colour}": "picture" for colour in COLOURS},
    **{f"shape/{shape}": "picture" for shape in SHAPES},
    "motion/bouncing": "picture",
    **{f"sound/{timbre}": "sound" for timbre in TIMBRES},
    **{f"pitch/{pitch}": "sound" for pitch in PITCHES},
    "weather/rain": "redundant",
    "place/engine_room": "redundant",
    "sync/in_time": "synergy",
    "source/left": "synergy",
    "source/right": "synergy",
}
"""Every tag -> "picture" (needs video), "sound" (needs audio), "redundant" (needs either) or "synergy" (needs both)."""

_EVENTS = {"beep": "beeps", "chirp": "chirps", "noise": "noise bursts", "click": "clicks"}


def tags(scene: Scene) -> dict[str, str]:
    """The tags of the scene, each with its family, in the order of `FAMILIES`."""
    things = (scene.left, scene.right)
    true = {f"colour/{thing.colour}" for thing in things} | {f"shape/{thing.shape}" for thing in things}
    true |= {f"sound/{scene.sound.timbre}", f"pitch/{scene.sound.pitch}"}
    if any(thing.motion == "bouncing" for thing in things):
        true.add("motion/bouncing")
    if scene.surroundings.rain:
        true.add("weather/rain")
    if scene.surroundings.engine:
        true.add("place/engine_room")
    if scene.source != "neither":
        true |= {"sync/in_time", f"source/{scene.source}"}
    return {tag: family for tag, family in FAMILIES.items() if tag in true}


def caption(scene: Scene) -> str:
    """One sentence with the content of all tags.

    For example "a red circle on the left and a bouncing blue square on the right; low beeps in time with the left one,
    in the rain".
    """
    seen = f"a {_name(scene.left)} on the left and a {_name(scene.right)} on the right"
    companion = "neither" if scene.source == "neither" else f"the {scene.source} one"
    heard = f"{scene.sound.pitch} {_EVENTS[scene.sound.timbre]} in time with {companion}"
    rain = ", in the rain" if scene.surroundings.rain else ""
    engine = ", in an engine room" if scene.surroundings.engine else ""
    return f"{seen}; {heard}{rain}{engine}"


def _name(thing: Thing) -> str:
    return f"{'bouncing ' if thing.motion == 'bouncing' else ''}{thing.colour} {thing.shape}"
