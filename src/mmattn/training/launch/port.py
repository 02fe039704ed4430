"""A port on which the processes of one machine meet."""

from __future__ import annotations

import random
import socket

# Below the ports that systems hand to outgoing connections (Linux: from 32768): between the moment in which one of
# those is found free and the moment in which rank 0 listens on it, any connection of this machine may get it.
PORTS = range(20000, 32768)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens, chosen at random, so that two runs choose two."""
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as who listens there later
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port among {PORTS.start} to {PORTS.stop - 1} on 127.0.0.1")
