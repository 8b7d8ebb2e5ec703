"""
A program of greenlets that share a ledger: what the tests of gevent and eventlet start as a process.

``python -m tests.faults._greenlets HUB ORDER ACT``; prints what came of it, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

HUBS = ("gevent", "eventlet")
# When everything is patched: before keybrake is imported, after it, after its ledger was opened; or
# only in part, so that threads stay threads; or not at all.
ORDERS = ("first", "imported", "opened", "in part", "never")
TIMEOUT_S = 1.0
GREENLETS = 3


class Hub:
    """gevent or eventlet, as far as the acts need it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def patch(self, *, in_part: bool = False) -> None:
        """Put greenlets in the place of threads, or only in that of sockets."""
        if self.name == "gevent":
            from gevent import monkey

            monkey.patch_all(**({"thread": False, "queue": False} if in_part else {}))
        else:
            import eventlet

            eventlet.monkey_patch(**({"socket": True} if in_part else {}))

    def sleep(self, seconds: float) -> None:
        """Let the others go on for a while."""
        __import__(self.name).sleep(seconds)

    def spawn(self, work: Callable[[], Any]) -> Any:
        """Have a greenlet do the work."""
        return __import__(self.name).spawn(work)

    def join(self, greenlets: list[Any]) -> None:
        """Wait until they are done."""
        for greenlet in greenlets:
            greenlet.join() if self.name == "gevent" else greenlet.wait()


class Ticks:
    """Measures the longest time that a greenlet beside the others had to stand still."""

    def __init__(self, hub: Hub) -> None:
        self.longest_s = 0.0
        self._on = True
        self._hub = hub
        self._greenlet = hub.spawn(self._tick)
        hub.sleep(0.05)

    def _tick(self) -> None:
        before = time.monotonic()
        while self._on:
            self._hub.sleep(0.02)
            now = time.monotonic()
            self.longest_s, before = max(self.longest_s, now - before), now

    def stop(self) -> float:
        """Return what was measured."""
        self._hub.sleep(0.05)
        self._on = False
        self._hub.join([self._greenlet])
        return self.longest_s


def opens(said: list[str]) -> Callable[[], None]:
    """Return a function that opens a run and closes it, and says how that ended."""
    import keybrake

    def work() -> None:
        try:
            with keybrake.run("waits", cap=1):
                pass
        except keybrake.KeybrakeError as error:
            said.append(type(error).__name__)
        else:
            said.append("ok")

    return work


def wait_for_lock(hub: Hub) -> dict[str, Any]:
    """Have greenlets open runs while another process holds the lock, as long as it says."""
    said: list[str] = []
    print("ready", flush=True)
    sys.stdin.readline()
    ticks, began = Ticks(hub), time.monotonic()
    hub.join([hub.spawn(opens(said)) for _ in range(GREENLETS)])
    return {"said": said, "took_s": time.monotonic() - began, "stood_s": ticks.stop()}


def share_with_threads(hub: Hub) -> dict[str, Any]:
    """Have greenlets and threads of the system open runs side by side."""
    from keybrake.model import waiting

    said: list[str] = []
    work = opens(said)

    def many() -> None:
        for _ in range(20):
            work()

    for _ in range(2):
        waiting.start_new_thread(many, ())
    ticks = Ticks(hub)
    hub.join([hub.spawn(many) for _ in range(GREENLETS)])
    while len(said) < 20 * (GREENLETS + 2):
        hub.sleep(0.01)
    return {"said": sorted(set(said)), "count": len(said), "stood_s": ticks.stop()}


def end_while_waiting(hub: Hub) -> dict[str, Any]:
    """Kill a greenlet that waits for the lock; then another one opens a run."""
    said: list[str] = []
    print("ready", flush=True)
    sys.stdin.readline()
    waits = hub.spawn(opens([]))
    behind = hub.spawn(opens([]))
    hub.sleep(0.2)
    for one in (behind, waits):
        one.kill()
    hub.sleep(0.05)
    print("ended", flush=True)
    sys.stdin.readline()
    hub.join([hub.spawn(opens(said))])
    return {"said": said}


def fetch_credential(hub: Hub) -> dict[str, Any]:
    """Have greenlets ask for one credential, whose place takes a while, with locks from before."""
    from keybrake.credentials.secret import Credential, Secret

    class Slow(CREDENTIALS[0]):
        def _fetch(self, vendor: str, refused: Any) -> Credential:
            hub.sleep(0.2)
            return Credential(Secret("sk_test_slow"), "")

    slow, found = Slow(300), []
    hub.join([hub.spawn(lambda: found.append(slow.get("stripe"))) for _ in range(GREENLETS)])
    return {"found": len(found)}


def wait_in_hub(hub: Hub) -> dict[str, Any]:
    """Have the hub itself open a run while another process holds the lock."""
    said: list[str] = []
    print("ready", flush=True)
    sys.stdin.readline()
    work = opens(said)
    if hub.name == "gevent":
        import gevent

        gevent.get_hub().loop.run_callback(work)
    else:
        import eventlet.hubs

        eventlet.hubs.get_hub().schedule_call_global(0, work)
    while not said:
        hub.sleep(0.05)
    return {"said": said}


def carry(hub: Hub) -> dict[str, Any]:
    """Say in which run a greenlet stands that was spawned in one: as it is, and bound."""
    import keybrake

    found: list[Any] = []

    def look() -> None:
        run = keybrake.current_run()
        found.append(run and run.label)

    with keybrake.run("around", cap=1):
        hub.join([hub.spawn(look)])
        hub.join([hub.spawn(keybrake.bind(look))])
    return {"found": found}


CREDENTIALS: list[Any] = []
ACTS = {
    "wait": wait_for_lock,
    "share": share_with_threads,
    "end": end_while_waiting,
    "fetch": fetch_credential,
    "carry": carry,
    "in the hub": wait_in_hub,
}


def main(name: str, order: str, act: str) -> None:
    """Patch in that order, play the act, print what came of it."""
    hub = Hub(name)
    if order == "first":
        hub.patch()
    import keybrake
    from keybrake.credentials.store import Kept

    CREDENTIALS.append(Kept)
    if order == "imported":
        hub.patch()
    keybrake.configure(lock_timeout=TIMEOUT_S)
    with keybrake.run("opened", cap=1):
        pass
    if order == "opened":
        hub.patch()
    if order == "in part":
        hub.patch(in_part=True)
    print(json.dumps(ACTS[act](hub)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
