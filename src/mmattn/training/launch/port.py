"""A free port for the rendezvous of processes on one machine."""

from __future__ import annotations

import random
import socket

# Below the ephemeral ports (Linux: from 32768): an outgoing connection could take one of those between the moment it is
# found free and the moment rank 0 listens on it.
PORTS = range(20000, 32768)


def free_port() -> int:
    """A free TCP port of 127.0.0.1, chosen at random, so that two runs choose different ones."""
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the later listener does
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port among {PORTS.start} to {PORTS.stop - 1} on 127.0.0.1")
