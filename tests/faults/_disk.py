"""A disk that keeps what was synced, and of the rest what it likes: built from what strace saw."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults._acts import Scene

# Whether a write that nobody synced is on the disk after all.
Keeps = Callable[[], bool]

# As the fields stand in a seal: the id of the boot is the last of them.
_BOOT_ID_BYTES = 36


class Event(NamedTuple):
    """One system call that the disk or the vendor takes notice of."""

    name: str
    path: str
    data: bytes
    at: int


_CALL = re.compile(
    r"\d+ +(?P<name>\w+)\((?:\d+<(?P<open>[^>]*)>|\"(?P<named>[^\"]*)\")"
    r"(?:, \"(?P<data>[^\"]*)\")?(?:, (?P<a>\d+))?(?:, (?P<b>\d+))?.*= \d"
)


def events_of(trace: Path) -> Iterator[Event]:
    """Return what strace saw, in order; calls that failed changed nothing."""
    for line in trace.read_text("ascii").splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        data = bytes.fromhex((found["data"] or "").replace("\\x", ""))
        at = found["b"] if found["name"] == "pwrite64" else found["a"]
        path = _text(found["open"] or found["named"])
        yield Event(found["name"], path, data, int(at or 0))


def _text(escaped: str) -> str:
    return bytes.fromhex(escaped.replace("\\x", "")).decode()


class Disk:
    """
    The files of one folder as they are on the disk, and the writes to them that are on their way.

    Names are taken to be lasting at once, and what is cut off or deleted to be gone at once.
    """

    OPTIONS = (
        "-y",
        "-xx",
        "-s",
        "100000",
        "-e",
        "trace=pwrite64,fdatasync,fsync,ftruncate,unlink,sendto",
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._synced = {
            str(path): path.read_bytes() for path in folder.iterdir() if _lasts(path.name)
        }
        self._on_their_way: list[Event] = []
        self._sent = 0

    def take(self, event: Event) -> int:
        """Let something happen; return how many requests have left so far."""
        if event.name == "sendto":
            self._sent += event.data.startswith(b"POST")
        elif event.name in ("fdatasync", "fsync"):
            for write in [it for it in self._on_their_way if it.path == event.path]:
                self._write(self._synced, write)
                self._on_their_way.remove(write)
        elif _lasts(event.path):
            self._change(event)
        return self._sent

    def _change(self, event: Event) -> None:
        if event.name == "pwrite64":
            self._on_their_way.append(event)
            return
        left = 0 if event.name == "unlink" else event.at
        self._on_their_way = [
            it for it in self._on_their_way if it.path != event.path or it.at < left
        ]
        if event.name == "unlink":
            self._synced.pop(event.path, None)
        else:
            self._synced[event.path] = self._synced.get(event.path, b"")[:left]

    @staticmethod
    def _write(files: dict[str, bytes], write: Event) -> None:
        old = files.get(write.path, b"").ljust(write.at, b"\0")
        files[write.path] = old[: write.at] + write.data + old[write.at + len(write.data) :]

    def after_power_cut(self, keeps: Keeps, folder: Path, scene: Scene) -> Scene:
        """Return the scene as it is found after the next boot."""
        files = dict(self._synced)
        for write in self._on_their_way:
            if keeps():
                self._write(files, write)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in files.items():
            path = folder / Path(name).name
            booted = b"0" * _BOOT_ID_BYTES
            path.write_bytes(
                content[:-_BOOT_ID_BYTES] + booted if name.endswith(".seal") else content
            )
            path.chmod(0o600)
        return scene._replace(ledger=f"sqlite:///{folder / 'ledger.db'}")


def nothing() -> bool:
    """Keep nothing that was not synced."""
    return False


def everything() -> bool:
    """Keep all of it, as after a crash of the process alone."""
    return True


def at_random(seed: str) -> Keeps:
    """Keep this and lose that."""
    dice = random.Random(seed)

    def this_and_not_that() -> bool:
        return dice.random() < 0.5

    return this_and_not_that


def _lasts(name: str) -> bool:
    """Return whether a file is kept on the disk: the index of the log is only ever in memory."""
    return "ledger.db" in name and not name.endswith(("-shm", ".lock")) and ".owner-" not in name
