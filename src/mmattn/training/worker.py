"""One process of a distributed run: python -m mmattn.training.worker RUN_DIR, with the rank in the environment.

Started by `mmattn train`, torchrun (torchrun ... -m mmattn.training.worker RUN_DIR) or srun.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmattn.errors import MmattnError, PeerFailed, Stopped, first_line


def main() -> int:
    """Train the run of the command line; returns the exit code."""
    try:
        from mmattn.process.signals import PIPE, stop_without
        from mmattn.training.run.train import train

        if launcher := os.environ.pop(PIPE, None):
            stop_without(int(launcher))
        train(Path(sys.argv[1]))
    except Stopped as stopped:
        return stopped.exit_code  # the launcher reports it once for all processes
    except PeerFailed as error:
        return error.exit_code
    except MmattnError as error:
        print(f"mmattn: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "c10d", "TCPStore")):
            raise
        print(f"mmattn: lost another process of the run ({first_line(error)})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
