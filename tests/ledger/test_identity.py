"""Is a ledger known again by its file, its seal and its log, and is each loss told by its name?"""

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keybrake.ledger.stores.sqlite import ledger_files, seal_file
from keybrake.ledger.stores.sqlite.identity import Identity
from keybrake.ledger.stores.sqlite.ledger_files import Unusable

UID = "0123456789abcdef" * 2
BOOT = b"3a1f4a5e-9d0c-4c55-8d7e-0123456789ab"


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """Leave a file that stands for a ledger, with a log, an index and a seal of 7 events."""
    (tmp_path / "boot_id").write_bytes(BOOT + b"\n")
    monkeypatch.setattr(seal_file, "_BOOT_ID", tmp_path / "boot_id")
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "ledger.db"
    for name in (path, *ledger_files.side_files(path)):
        name.write_bytes(b"x")
    seal_file.write(path, UID, 7)
    return path


@pytest.fixture
def known(path) -> Identity:
    """Return what a process knows that has had the ledger open."""
    identity = Identity(path)
    identity.learn(UID, 7)
    identity.learn_log()
    return identity


def open_files() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def told(what: Callable[[], object]) -> str:
    """Return why a ledger is refused."""
    with pytest.raises(Unusable) as refused:
        what()
    return str(refused.value)


def seal_of(path: Path) -> Path:
    """Return the seal beside a ledger."""
    return path.with_name("ledger.db.seal")


def changed(name: Path) -> None:
    """Put another file in the place of one."""
    other = name.with_name("other")
    other.write_bytes(name.read_bytes())
    other.replace(name)


# Beginning


def test_a_new_ledger_begins_where_none_was(path):
    """A seal, or a log, without a ledger says that there was one."""
    assert told(Identity(path).refuse_to_begin_anew) == (
        f"the ledger is not there, but its seal {seal_of(path)}, or its log, is: the ledger was "
        f"deleted, and what was spent with it. Put it back; keybrake doctor --repair lets a new one "
        f"begin"
    )
    seal_of(path).unlink()
    told(Identity(path).refuse_to_begin_anew)
    ledger_files.side_files(path)[0].unlink()
    Identity(path).refuse_to_begin_anew()
    seal_of(path).symlink_to("nowhere")
    told(Identity(path).refuse_to_begin_anew)


def test_a_ledger_of_another_seal_is_refused(path):
    """The seal carries the id of its ledger."""
    assert told(lambda: Identity(path).learn("f" * 32, 7)) == (
        f"it is not the ledger that {seal_of(path)} belongs to: another file was put in its place. "
        f"Put the right one back; keybrake doctor --repair takes it as it is"
    )


def test_an_id_that_is_none_is_another(path):
    """Whatever stands where the id belongs can be read, and fits no ledger."""
    raw = seal_of(path).read_bytes()
    seal_of(path).write_bytes(raw[:8] + b"\xff" * 32 + raw[40:])
    assert told(lambda: Identity(path).learn(UID, 7)).startswith("it is not the ledger that ")


def test_an_older_ledger_is_refused_by_numbers(path):
    """The message says how far each has come; a newer ledger than its seal is none."""
    assert told(lambda: Identity(path).learn(UID, 6)) == (
        f"it is older than its seal: its newest event is 6, and {seal_of(path)} knows of 7. It was "
        f"restored from an older copy, so what was spent since is not in it. Put the newest one back; "
        f"keybrake doctor --repair takes it as it is"
    )
    for newest in (7, 8):
        Identity(path).learn(UID, newest)


def test_a_ledger_without_its_seal_is_refused_unless_it_is_new(path):
    """One in which nothing has happened yet has nothing to lose, and is sealed."""
    seal_of(path).unlink()
    assert told(lambda: Identity(path).learn(UID, 2)) == (
        f"its seal {seal_of(path)} is missing, so nobody can tell whether it is the newest copy. Put "
        f"the seal back, too; keybrake doctor --repair makes a new one and takes the ledger as it is"
    )
    assert not seal_of(path).exists()
    Identity(path).learn(UID, 1)
    with contextlib.closing(seal_file.Seal(path)) as seal:
        assert (seal.uid, seal.newest()) == (UID, 1)


def test_a_seal_that_cannot_be_read_is_refused(path):
    """Nobody guesses what stood in it."""
    seal_of(path).write_bytes(b"")
    assert told(lambda: Identity(path).learn(UID, 7)) == (
        f"its seal {seal_of(path)} cannot be read; keybrake doctor --repair makes a new one"
    )


def test_a_file_that_was_replaced_is_refused_when_it_is_opened_again(path, known):
    """A process that has had one ledger open goes on with no other."""
    assert known.is_known
    assert not Identity(path).is_known
    known.learn(UID, 7)
    changed(path)
    assert told(lambda: known.learn(UID, 7)) == (
        "the file was replaced while keybrake was using it; what was spent stands in the old one. Put "
        "it back, or restart every process to begin with the new one"
    )


def test_opening_again_lets_go_of_what_was_open(path, known):
    """Neither seal stays open for ever, whether it is taken or refused."""
    before = open_files()
    for _ in range(3):
        known.learn(UID, 7)
        for uid, newest in (("f" * 32, 7), (UID, 6)):
            told(lambda uid=uid, newest=newest: known.learn(uid, newest))
    assert open_files() == before


# Going on


def test_a_file_that_went_is_told(path, known):
    """Deleted and replaced are told apart."""
    known.check()
    path.rename(path.with_name("away"))
    assert told(known.check) == str(known.deleted()) == (
        "the file was deleted while keybrake was using it; put it back, or restart every process"
    )  # fmt: skip
    path.write_bytes(b"x")
    assert told(known.check).startswith("the file was replaced while keybrake was using it; what")
    path.with_name("away").rename(path)
    known.check()


@pytest.mark.parametrize("lose", [Path.unlink, changed], ids=["deleted", "replaced"])
def test_a_seal_that_went_is_told(path, known, lose):
    """Without it nobody could tell later whether the ledger is the newest."""
    lose(seal_of(path))
    assert told(known.check) == (
        f"its seal {seal_of(path)} was deleted, replaced or emptied while keybrake was using it. Put "
        f"it back, or run keybrake doctor --repair and restart every process"
    )


@pytest.mark.parametrize("side", [0, 1], ids=["log", "index"])
@pytest.mark.parametrize("lose", [Path.unlink, changed], ids=["deleted", "replaced"])
def test_a_log_that_went_is_told(path, known, lose, side):
    """What would be written into it nobody would read; a new connection brings a new one."""
    assert not known.has_lost_log()
    known.check_log()
    lose(ledger_files.side_files(path)[side])
    words = (
        "its write-ahead log, or the index of it, was removed while this process was using it, after "
        "some code here opened and closed the file by itself, or somebody deleted it. Restart this "
        "process to go on; copy a ledger with sqlite3's .backup, from another process"
    )

    assert known.has_lost_log()
    assert told(known.check_log) == told(known.check) == words
    known.forget_log()
    assert not known.has_lost_log()
    known.check()


def test_a_log_is_learnt_once(path):
    """Whoever asks is told whether it was known; before that, none can be lost."""
    identity = Identity(path)
    assert not identity.has_lost_log()
    assert [identity.learn_log(), identity.learn_log()] == [False, True]
    ledger_files.side_files(path)[0].unlink()
    assert identity.learn_log()
    assert identity.has_lost_log()


def test_a_ledger_that_is_not_known_yet_has_no_file_to_lose(path):
    """Before it was first opened there is nothing to compare with."""
    identity = Identity(path)
    path.unlink()
    identity.check()


@pytest.fixture
def looks(monkeypatch) -> Iterator[list[str]]:
    """Return a list that grows by each file that is looked at."""
    seen: list[str] = []
    stat = os.stat

    def looked(name: str, **options: object) -> os.stat_result:
        seen.append(os.path.basename(name))  # noqa: PTH119 -- not of this test
        return stat(name, **options)

    monkeypatch.setattr(os, "stat", looked)
    yield seen
    monkeypatch.undo()


def rests(path: Path, ago_ns: int) -> None:
    """Let the folder have changed so long ago."""
    at = time.time_ns() - ago_ns
    os.utime(path.parent, ns=(at, at))


def test_while_the_folder_rests_the_files_are_not_looked_at(path, known, looks):
    """Nothing in a folder goes without its time changing; then each file is looked at again."""
    rests(path, 10**9)
    known.check()
    looks.clear()
    known.check()
    assert looks == ["state"]
    rests(path, 2 * 10**9)
    known.check()
    assert looks[1:] == [
        "state", "ledger.db-wal", "ledger.db-shm", "ledger.db", "ledger.db.seal",
    ]  # fmt: skip


def test_a_folder_that_changed_just_now_is_looked_into_again(path, known, looks):
    """Its time is coarse: another change may have the same."""
    rests(path, -(10**9))
    for _ in range(2):
        looks.clear()
        known.check()
        assert len(looks) == 5


@pytest.mark.parametrize("learn", ["learn", "learn_log"])
def test_what_is_learnt_anew_is_looked_at_anew(path, known, looks, learn):
    """A file opened again, or a new log, has not been looked at yet."""
    rests(path, 10**9)
    known.check()
    if learn == "learn":
        known.learn(UID, 7)
    else:
        known.forget_log()
        known.learn_log()
    looks.clear()
    known.check()
    assert len(looks) == 5


def test_contents_that_went_are_told(path, known):
    """An emptied file, an older one, and an emptied seal."""
    known.check_contents(1, 7)
    known.check_contents(2048, 8)
    assert told(lambda: known.check_contents(0, 7)) == (
        "the file was emptied while keybrake was using it; put it back from a copy"
    )
    assert told(lambda: known.check_contents(4096, 5)).startswith(
        f"it is older than its seal: its newest event is 5, and {seal_of(path)} knows of 7. It was"
    )
    seal_of(path).write_bytes(b"")
    assert told(lambda: known.check_contents(4096, 7)).startswith(
        f"its seal {seal_of(path)} was deleted, replaced or emptied while keybrake was using it. Put"
    )


def test_a_past_that_has_changed_is_told(known):
    """What this process wrote is gone: an older copy, or another ledger."""
    assert str(known.rewritten()) == (
        "what this process wrote to it is not in it any more: an older copy, or another ledger, was "
        "put in its place. Put the newest one back, or restart every process"
    )


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_committed_is_sealed(path, known, durable):
    """From then on an older copy shows; a ledger that is not open yet has no seal to advance."""
    Identity(path).advance(9, durable=durable)
    known.check_contents(1, 7)
    known.advance(9, durable=durable)
    known.check_contents(1, 9)
    assert "knows of 9" in told(lambda: known.check_contents(1, 8))
    words = struct.unpack("<QQ", seal_of(path).read_bytes()[40:56])
    assert words == (9 if durable else 7, 9)


# The seal itself


@pytest.fixture
def seal(path) -> Iterator[seal_file.Seal]:
    """Open the seal of a ledger."""
    with contextlib.closing(seal_file.Seal(path)) as opened:
        yield opened


def test_a_seal_is_92_bytes_and_the_owners_alone(path):
    """What it is, whose it is, two numbers and the boot; made whole or not at all."""
    draft = path.with_name("ledger.db.seal.new")
    draft.write_bytes(b"left over, and longer than any seal" * 10)
    before = os.umask(0)
    try:
        draft.unlink()
        seal_file.write(path, UID, 300)
    finally:
        os.umask(before)

    assert seal_of(path).read_bytes() == (
        b"kbseal1\n" + UID.encode() + struct.pack("<QQ", 300, 300) + BOOT
    )
    assert len(seal_of(path).read_bytes()) == 92
    assert seal_of(path).stat().st_mode & 0o777 == 0o600
    assert not draft.exists()


def test_a_draft_that_was_left_over_is_written_over(path):
    """And never through a link."""
    draft = path.with_name("ledger.db.seal.new")
    draft.write_bytes(b"x" * 500)
    seal_file.write(path, UID, 8)
    assert len(seal_of(path).read_bytes()) == 92
    draft.symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        seal_file.write(path, UID, 9)
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize(
    "spoil", [lambda it: it[:-1], lambda it: it + b"x", lambda it: b"K" + it[1:], lambda it: b""]
)
def test_what_is_no_seal_is_broken(path, spoil):
    """A byte less, a byte more, and another beginning; and no descriptor stays open."""
    before = open_files()
    seal_of(path).write_bytes(spoil(seal_of(path).read_bytes()))
    with pytest.raises(seal_file.Broken):
        seal_file.Seal(path)
    assert open_files() == before


def test_a_link_is_no_seal(path):
    """Nor is one made where there is none."""
    seal_of(path).rename(path.with_name("away"))
    with pytest.raises(FileNotFoundError):
        seal_file.Seal(path)
    assert not seal_of(path).exists()
    seal_of(path).symlink_to("away")
    with pytest.raises(OSError, match="symbolic"):
        seal_file.Seal(path)


def test_a_seal_is_not_inherited_by_another_program(seal):
    """Its descriptor is closed on exec."""
    assert not os.get_inheritable(seal._fd)


def test_of_another_boot_only_what_was_durable_counts(path, seal):
    """A power cut may lose what was not; in this boot the newest counts."""
    seal.advance(20, durable=True)
    seal.advance(25, durable=False)
    assert seal.newest() == 25
    raw = seal_of(path).read_bytes()
    seal_of(path).write_bytes(raw[:-36] + b"1" * 36)
    assert seal.newest() == 20
    seal.advance(26, durable=False)
    assert seal.newest() == 26
    seal.advance(30, durable=True)
    assert seal_of(path).read_bytes()[40:56] == struct.pack("<QQ", 30, 30)


def test_a_system_that_names_no_boot_counts_what_was_durable(path, monkeypatch):
    """Any boot may be another one."""
    monkeypatch.setattr(seal_file, "_BOOT_ID", path.with_name("none"))
    seal_file.write(path, UID, 20)
    with contextlib.closing(seal_file.Seal(path)) as seal:
        seal.advance(25, durable=False)
        assert seal.newest() == 20
    assert seal_of(path).read_bytes()[-36:] == b"\0" * 36


def test_a_boot_of_any_length_fits(path, monkeypatch):
    """A longer id is cut, a shorter one filled up."""
    for said, kept in ((b"ab\n", b"ab" + b"\0" * 34), (b"y" * 50, b"y" * 36)):
        path.with_name("boot").write_bytes(said)
        monkeypatch.setattr(seal_file, "_BOOT_ID", path.with_name("boot"))
        seal_file.write(path, UID, 20)
        assert seal_of(path).read_bytes()[-36:] == kept


def test_an_emptied_seal_is_broken_while_it_is_open(path, seal):
    """Half of the numbers are no numbers."""
    seal_of(path).write_bytes(seal_of(path).read_bytes()[:91])
    with pytest.raises(seal_file.Broken):
        seal.newest()
