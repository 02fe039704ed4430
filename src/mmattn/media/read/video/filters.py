"""FFmpeg's filters on one frame, in a new graph each time, so that no other frame has an effect."""

from __future__ import annotations

from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame


def filtered(frame: VideoFrame, *steps: tuple[str, str]) -> VideoFrame:
    """`frame` after `steps`, each a filter's name and options. Raises FFmpegError, ValueError for unknown filters."""
    graph = Graph()
    graph.threads = 1
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    for name, options in steps:
        step = graph.add(name, options)
        last.link_to(step)
        last = step
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    graph.push(None)
    out = graph.pull()
    assert isinstance(out, VideoFrame)
    return out
