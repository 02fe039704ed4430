"""One file, whatever it is, to a Clip: frames at given times and sound on one clock. See docs/media.md."""

from mmattn.errors import MediaError
from mmattn.files import ByteRange
from mmattn.media.decode import read_clip
from mmattn.media.isolate import IsolatedReader
from mmattn.media.open import Limits
from mmattn.media.probe import probe
from mmattn.media.request import Request
from mmattn.media.windows import Windows, iter_windows

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
