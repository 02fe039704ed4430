"""Put on PYTHONPATH, this makes faulty decoders and models of mmattn's processes: names of files say what happens.

deadly, endless, spinning, hungry: to the decoding process; fatal, rowdy: to the process with the model. JUMPING_CLOCK:
the time of day goes wild in every process.
"""

import os
import signal
import sys
import time


def _decoder() -> None:
    import numpy

    import mmattn.media.isolate.worker as worker

    plain = worker.decode

    def decode(request, src, *rest):
        if "deadly" in str(src):
            os.kill(os.getpid(), signal.SIGSEGV)
        if "endless" in str(src):
            time.sleep(1000)
        while "spinning" in str(src):
            pass
        if "hungry" in str(src):
            hoard = []  # of memory that nobody writes to: its limit is met at once
            while True:
                hoard.append(numpy.empty(256 << 20, numpy.uint8))
        return plain(request, src, *rest)

    worker.decode = decode


def _model() -> None:
    from mmattn.data.load.reader import ClipReader

    plain = ClipReader.__call__

    def read(self, media, request):
        if "fatal" in str(media):
            os.kill(os.getpid(), signal.SIGSEGV)
        if "rowdy" in str(media):
            raise ValueError("not for this model")
        return plain(self, media, request)

    ClipReader.__call__ = read


def _jump() -> None:
    plain, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return plain() + (-1) ** calls[0] * 3e7

    time.time = jumping


started = " ".join(sys.orig_argv)
if "JUMPING_CLOCK" in os.environ:
    _jump()
if "nursery" in started:
    _decoder()
elif "mmattn.inference.engines.process" in started or "default_worker.py" in started:
    _model()
