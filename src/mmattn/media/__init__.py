"""Read any media file as a Clip: frames at given times and a waveform on one clock. See docs/media.md."""

from mmattn.errors import MediaError
from mmattn.files import ByteRange
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.open.container import Limits
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.read.windows.layout import Windows
from mmattn.media.survey.probe import probe

__all__ = [
    "ByteRange",
    "IsolatedReader",
    "Limits",
    "MediaError",
    "Request",
    "Windows",
    "iter_windows",
    "probe",
    "read_clip",
]
