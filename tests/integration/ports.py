"""Ports for processes that must be told on which one to listen."""

import itertools
import os
import socket
from collections.abc import Iterator

FIRST = 10_000
BLOCKS, PORTS_PER_BLOCK = 500, 20
"""Up to 20000: below those that the kernel gives to connections, and those of dev clusters."""


def _block(process: int) -> Iterator[int]:
    """Yield the ports of a test process for ever; processes side by side have others."""
    first = FIRST + process % BLOCKS * PORTS_PER_BLOCK
    return itertools.cycle(range(first, first + PORTS_PER_BLOCK))


_ports = _block(os.getpid())


def free_port() -> int:
    """Return a port on which nobody listens, nor will before it is used: a test asks for few."""
    return next(port for port in itertools.islice(_ports, PORTS_PER_BLOCK) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
