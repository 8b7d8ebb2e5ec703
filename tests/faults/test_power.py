"""Is every call that went out there after the power went, whatever was not on the disk by then?"""

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import keybrake
from keybrake.testing import FakeStripe
from tests.faults import _acts, _disk, _oracle
from tests.faults._acts import Act, After, Scene
from tests.faults._disk import Disk
from tests.faults._stage import Actor, Theatre, fake_vendor, traced, wait_for


@pytest.fixture
def vendor() -> Iterator[FakeStripe]:
    """Start a fake vendor."""
    with fake_vendor() as fake:
        yield fake


@pytest.fixture
def theatre(vendor, tmp_path) -> Theatre:
    """Make a ledger with a run in it."""
    return Theatre(tmp_path, vendor.url)


def charge_for_ever(scene: Scene) -> Iterator[None]:
    """Charge a cent, again and again, on a run of its own."""
    with keybrake.run("endless", cap=None, daily_usd_cap=10**6, ledger=scene.ledger):
        yield
        while True:
            _acts.pay(amount=1)


def copied(scene: Scene, folder: Path) -> Scene:
    """Return a copy of the scene's ledger as it is on the disk; what is only in memory is lost."""
    folder.mkdir()
    for ending in ("", "-wal", ".seal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(scene.file + ending, folder / f"ledger.db{ending}")
            (folder / f"ledger.db{ending}").chmod(0o600)
    return scene._replace(ledger=f"sqlite:///{folder / 'ledger.db'}")


@contextlib.contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Stop processes wherever they are, for the length of a block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for pid in pids:
            wait_for(lambda pid=pid: _is_stopped(pid))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    if not Path("/proc/self").exists():
        time.sleep(0.05)  # macOS does not say; a signal takes no longer
        return True
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] == "T"


def test_a_copy_made_at_any_moment_has_every_call_that_went_out(theatre, vendor, tmp_path):
    """Twelve times, with all writers frozen, the files as they are open again, with nothing missing."""
    scene = theatre.scene()
    with Actor(scene, charge_for_ever) as one, Actor(scene, charge_for_ever) as other:
        for actor in (one, other):
            actor.go()
        for moment in range(12):
            seen = len(vendor.journal.entries)
            wait_for(lambda seen=seen: len(vendor.journal.entries) > seen + 2)
            time.sleep(random.uniform(0, 0.01))
            with frozen([one.pid, other.pid]):
                copy = copied(scene, tmp_path / f"copy-{moment}")
                time.sleep(0.05)  # a request that is on its way arrives
                journal = vendor.journal.entries
            ledger = keybrake.open_ledger(copy.ledger)
            keybrake.issue_vault_key("after", cap=1, ledger=ledger)

            assert len(journal) > seen
            assert _oracle.violations(copy, journal) == []
            ledger.close()


class Cut(NamedTuple):
    """A power cut: what is found after the next boot, and what the vendor had got by then."""

    scene: Scene
    keeps: _disk.Keeps
    violations: list[str]


@pytest.fixture
def power_cuts(theatre, vendor, tmp_path) -> Callable[[Act], Iterator[Cut]]:
    """Return a function that plays an act once, and cuts the power at each moment of it."""

    def cuts(act: Act) -> Iterator[Cut]:
        scene, first = theatre.scene(), len(vendor.journal.entries)
        trace = tmp_path / "trace"
        with Actor(scene, act) as actor:
            before = len(vendor.journal.entries)
            disk = Disk(Path(scene.file).parent)
            with traced(actor, *Disk.OPTIONS, "-o", str(trace)):
                actor.go()
                assert actor.answer() == "done"
        kinds = (_disk.nothing, _disk.everything, _disk.at_random(act.__name__))
        for nr, event in enumerate(_disk.events_of(trace)):
            journal = vendor.journal.entries[first : before + disk.take(event)]
            for keeps in kinds:
                folder = tmp_path / f"cut-{nr}-{keeps.__name__}"
                copy = disk.after_power_cut(keeps, folder, scene)
                yield Cut(copy, keeps, _oracle.violations(copy, journal))

    return cuts


@pytest.mark.system
@pytest.mark.parametrize("act", ["second_call", "first_call", "void", "revoke", "leave"])
def test_what_was_not_synced_may_be_lost(power_cuts, act):
    """Whatever of the unsynced writes survives a power cut, every request has its row, and all opens."""
    count = 0
    for cut in power_cuts(_acts.ACTS[act]):
        count += 1
        assert cut.violations == []
        if cut.keeps is not _disk.everything:
            _opens_again(cut.scene)

    print(f"{act}: {count} power cuts")
    assert count > 15


def undurable_call(scene: Scene) -> Iterator[None]:
    """A call on a ledger that does not wait for the disk."""
    keybrake.configure(durability="process")
    yield from _acts.second_call(scene)


@pytest.mark.system
def test_a_ledger_that_does_not_wait_for_the_disk_would_show(power_cuts):
    """Without the wait a power cut does lose a call that went out: these cuts can tell."""
    assert any(cut.violations for cut in power_cuts(undurable_call))


def _opens_again(scene: Scene) -> None:
    with Actor(scene, _acts.go_on) as actor:
        actor.go()
        after = actor.answer()
    assert isinstance(after, After), after
    assert (after.ended in ("cap_exceeded", "run_revoked"), after.verified) == (True, "")
