"""A scene becomes frames. Edges are smooth because coverage is computed from the distance to the outline, not sampled.

Shape legend: T frames, S the width of the picture, W that of one half, in pixels. Until the end, colours are in [0, 1]
and channels come first: numpy is several times faster when the innermost axis is long.
"""

from __future__ import annotations

import numpy as np

from mmattn.data.avshapes.scene import FPS, FRAMES, SIZE, Scene, Surroundings, Thing, stream

FLASH_FRAMES = 3
FLASH_WHITE = 0.85  # how far towards white the brightest frame of a flash goes
FLASH_GROWTH = 0.2  # of the radius
GLOW = 0.5  # how much a flash lights up what is around it, and how far
GLOW_PIXELS = 8
RIM_PIXELS = 1.6
GRAIN = 0.012  # standard deviation of the background's texture
RGB = {
    "red": (222, 58, 58),
    "green": (58, 184, 92),
    "blue": (66, 112, 236),
    "yellow": (238, 200, 52),
}
RAIN_RGB = (199, 219, 255)
DROPS = 70
DROP_PIXELS = 9  # length of a streak
DROP_SPEED = (170.0, 240.0)  # pixels per second
PIPES = 6


def render_video(scene: Scene) -> np.ndarray:
    """The frames (T, S, S, 3) uint8. Frame k shows the time (k + 1/2) / FPS, the middle of its stay on the screen."""
    rng = stream(scene.seed, scene.index, 1)
    times = (np.arange(FRAMES, dtype=np.float32) + 0.5) / FPS
    canvas = _background(rng, scene.surroundings, times)
    for half, thing in enumerate((scene.left, scene.right)):
        columns = slice(half * SIZE // 2, (half + 1) * SIZE // 2)
        _draw(canvas[..., columns], thing, _flash(scene.times(thing.slots), times), times)
    if scene.surroundings.rain:
        _draw_rain(rng, canvas, scene.surroundings, times)
    canvas *= 255
    canvas += 0.5
    np.clip(canvas, 0, 255, out=canvas)
    return np.stack([channel.astype(np.uint8) for channel in canvas], axis=-1)


def _flash(events: np.ndarray, times: np.ndarray) -> np.ndarray:
    """How bright (T,) in [0, 1]: each event lights the frame it falls into most and the next two less and less."""
    since = (times[:, None] - events + 0.5 / FPS) * FPS  # (T, 4) in frames; the first lit frame is in [0, 1)
    lit = (since >= 0) & (since < FLASH_FRAMES)
    return (lit * (1 - 0.4 * since / FLASH_FRAMES)).max(axis=1).astype(np.float32)


def _background(rng: np.random.Generator, around: Surroundings, times: np.ndarray) -> np.ndarray:
    """A shaded, grainy wall (3, T, S, S), with throbbing pipes where an engine runs."""
    down = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None]
    top, bottom = (np.asarray(colour, np.float32)[:, None, None] for colour in (around.top, around.bottom))
    grain = GRAIN * rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    wall = top * (1 - down) + bottom * down + grain  # (3, S, S)
    canvas = np.repeat(wall[:, None], len(times), axis=1)
    if around.engine:
        throb = np.cos(2 * np.pi * (around.throb_hz * times + around.throb_phase))[:, None]  # (T, 1)
        shake = 1.2 * np.sin(2 * np.pi * 7.3 * times)[:, None]  # pixels
        across = np.arange(SIZE) + 0.5 + shake + rng.uniform(0, SIZE)  # (T, S)
        pipe = np.clip(2.5 * np.sin(2 * np.pi * across * PIPES / SIZE), 0, 1)  # 1 on a pipe, 0 between two
        shade = 1 - around.engine_strength * pipe * (0.55 - 0.35 * throb)
        canvas *= shade[:, None].astype(np.float32)
    return canvas


def _path(thing: Thing, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the object is, x and y in its half, and how far it leans in radians, (T,) each."""
    turns = thing.hz * times + thing.phase
    (x, y), (x_reach, y_reach) = thing.centre, thing.reach
    match thing.motion:
        case "drifting":
            slow = 2 * np.pi * 0.3 * turns
            return x + x_reach * np.sin(slow), y + y_reach * np.sin(0.7 * slow + 1), 0.15 * np.sin(slow)
        case "bouncing":
            fall = 2 * (turns % 1) - 1  # -1 and 1 on the floor, 0 at the top
            side = np.sin(0.6 * np.pi * turns)
            return x + x_reach * side, y + y_reach * (2 * fall**2 - 1), 0.1 * side
        case "swinging":
            lean = np.sin(1.2 * np.pi * turns)
            return x + x_reach * lean, y + y_reach * (0.2 - 0.5 * lean**2), -0.3 * lean
    raise ValueError(f"no such motion: {thing.motion}")


def _distance(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Signed distance to the outline, negative inside. The three shapes are about equally large."""
    match shape:
        case "circle":
            return np.hypot(x, y) - radius
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) - 0.89 * radius
        case "triangle":  # upright; every side is 0.72 radii from the middle
            return np.maximum(y, 0.866 * np.abs(x) - 0.5 * y) - 0.72 * radius
    raise ValueError(f"no such shape: {shape}")


def _draw(half: np.ndarray, thing: Thing, flash: np.ndarray, times: np.ndarray) -> None:
    """Put the object with its shadow and glow into its half (3, T, S, W), in place."""
    x, y, lean = (np.asarray(value, np.float32)[:, None, None] for value in _path(thing, times))
    lit = flash[:, None, None]
    radius = thing.radius * (1 + FLASH_GROWTH * lit)
    across = np.arange(half.shape[-1], dtype=np.float32) + 0.5 - x  # (T, 1, W)
    down = np.arange(SIZE, dtype=np.float32)[:, None] + 0.5 - y  # (T, S, 1)
    cos, sin = np.cos(lean), np.sin(lean)
    outside = _distance(thing.shape, cos * across + sin * down, cos * down - sin * across, radius)  # (T, S, W)
    shadow = 1 - 0.4 * np.clip(1 - outside / 5, 0, 1)  # soft, all round
    glow = GLOW * lit * np.exp(-np.maximum(outside, 0) / GLOW_PIXELS)
    cover = np.clip(0.5 - outside, 0, 1)
    rim = np.clip(0.5 - outside - RIM_PIXELS, 0, 1)
    relief = 0.62 + 0.38 * rim - 0.004 * down  # a dark rim, lit from above
    white = FLASH_WHITE * lit
    for channel, value, tint in zip(half, RGB[thing.colour], thing.tint, strict=True):
        surface = relief * ((value + tint) / 255 * (1 - white)) + white
        channel *= shadow
        channel += glow
        channel += cover * (surface - channel)


def _draw_rain(rng: np.random.Generator, canvas: np.ndarray, around: Surroundings, times: np.ndarray) -> None:
    """Streaks over everything, in place: each drop falls at its own speed and enters again at the top."""
    first_y, first_x = rng.uniform(0, SIZE, (2, DROPS))
    fallen = (first_y + rng.uniform(*DROP_SPEED, DROPS) * times[:, None]) % (SIZE + DROP_PIXELS)  # (T, drops)
    along = np.arange(DROP_PIXELS)  # from the tip upwards
    y = np.floor(fallen)[..., None] - along  # (T, drops, pixels)
    x = (first_x[:, None] + around.rain_slant * (fallen[..., None] - along)) % (SIZE - 1)
    strength = np.where((y >= 0) & (y < SIZE), 1 - along / DROP_PIXELS, 0)
    frame = np.arange(len(times))[:, None, None]
    pixel = ((frame * SIZE + np.clip(y, 0, SIZE - 1)) * SIZE + np.floor(x)).astype(np.int64)
    right = x % 1  # the share of the pixel on the right
    wet = np.bincount(pixel.ravel(), (strength * (1 - right)).ravel(), canvas[0].size)
    wet += np.bincount(pixel.ravel() + 1, (strength * right).ravel(), canvas[0].size)
    cover = (0.55 * around.rain_strength * np.minimum(wet, 1)).astype(np.float32).reshape(canvas[0].shape)
    for channel, value in zip(canvas, RAIN_RGB, strict=True):
        channel += cover * (value / 255 - channel)
