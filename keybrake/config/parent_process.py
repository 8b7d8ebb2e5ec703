"""The ``keybrake exec`` that started this process, if one did: where it listens, and how it is asked."""

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
"""The environment variable that says where to ask: the path of a Unix socket."""

PATIENCE_S = 30.0  # a place of credentials may take ten seconds to say that it does not answer
# A configuration of a thousand policies has its place in an answer.
_MOST_BYTES = 4 * 1024 * 1024
# How long to wait before a queue that is full is tried again.
_PAUSE_S = 0.02

# As it was when this process began: what its environment says later is no word of whoever started it.
address = os.environ.get(ADDRESS)


def ask(where: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """
    Return what the process that listens at *where* answers.

    Raises:
        OSError: Nobody is there, or does not answer in time.
        ValueError: What came back cannot be read.
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
            # The queue is full. Where a socket has a timeout, Linux says so instead of waiting.
            if monotonic() >= until:
                raise
            time.sleep(_PAUSE_S)
