"""One process of a distributed run: python -m mmattn.training.worker RUN_DIR, with the ranks in the environment.

Its launcher starts it: `mmattn train`, torchrun (torchrun ... -m mmattn.training.worker RUN_DIR) or srun.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmattn.errors import MmattnError, Stopped, Unheard
from mmattn.text import first_line


def main() -> int:
    try:
        from mmattn.process.signals import PIPE, stop_without
        from mmattn.training.run.train import train

        if launcher := os.environ.pop(PIPE, None):
            stop_without(int(launcher))
        train(Path(sys.argv[1]))
    except Stopped as stopped:
        return stopped.exit_code  # the launcher says it once for all
    except Unheard as error:
        return error.exit_code
    except MmattnError as error:
        print(f"mmattn: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "c10d", "TCPStore")):
            raise
        print(f"mmattn: another process has gone ({first_line(error)})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
