"""Send a request to the ``keybrake exec`` that started this process, over its Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from keybrake.model.waiting import monotonic

ADDRESS = "KEYBRAKE_CREDENTIALS"
"""The environment variable with the path of the Unix socket of ``keybrake exec``."""

# Longer than the 10 s timeout of a credential source, which keybrake exec may have to wait for.
PATIENCE_S = 30.0
# Large enough for a configuration with a thousand policies.
_MOST_BYTES = 4 * 1024 * 1024
# Pause before the next try when the accept queue of the socket is full.
_PAUSE_S = 0.02

# Read once at import. Later changes to os.environ come from the agent, not the operator.
address = os.environ.get(ADDRESS)


def ask(where: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """
    Send *asked* to the process that listens at *where*, and return its answer.

    Raises:
        OSError: No process listens there, or it does not answer in time.
        ValueError: The answer is not JSON.
    """
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
        line.settimeout(PATIENCE_S)
        _connect(line, where)
        line.sendall(json.dumps(asked).encode() + b"\n")
        with line.makefile("rb") as answer:
            found = json.loads(answer.readline(_MOST_BYTES))
    return found if isinstance(found, dict) else {}


def _connect(line: socket.socket, where: str) -> None:
    until = monotonic() + PATIENCE_S
    while True:
        try:
            return line.connect(where)
        except BlockingIOError:
            # The accept queue is full. On a socket with a timeout, Linux reports that at once.
            if monotonic() >= until:
                raise
            time.sleep(_PAUSE_S)
