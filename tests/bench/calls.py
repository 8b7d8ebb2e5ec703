"""What one call costs our ledger: admit, settle, refuse, against the least that records a call."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from keybrake import Limit, Policy
from tests.bench._floor import Floor, Sync
from tests.bench._ledger import Ours
from tests.bench._measure import TIMES_HEAD, Row, interleaved, lines_of, ratio, together
from tests.bench._report import Aim, Section, table
from tests.bench._syncs import counted

_TEXT = """\
One process, one thread, in turns, each against the raw ledger of the same durability in the same
run. The parts of a call are measured in a second run, so that the first one has few works in turns.
A refusal is written down as well, as durably as an admission. *Daily cap and limit*: two more
counters that a call is charged to."""

_LIMITED = Policy(
    cap=100_000_000,
    daily_usd_cap=100_000_000,
    limits={"stripe.payment_intents.create": Limit(max_calls=10_000_000, per="24h")},
)


def measure(folder: Path, *, short: bool) -> Section:
    """Measure admission and settlement at both durabilities."""
    rounds = 100 if short else 4000
    process, process_whole = _whole_process(folder, rounds)
    parts, refused = _parts(folder, rounds // 2, "process")
    power, power_whole = _whole_power(folder, rounds // 2)
    power_parts, _ = _parts(folder, rounds // 4, "power")
    tables = [
        table(("µs, process", *TIMES_HEAD[1:]), lines_of([*process, *parts])),
        table(("µs, power", *TIMES_HEAD[1:]), lines_of([*power, *power_parts])),
    ]
    return Section(
        "One call",
        (_TEXT, *tables, counted(folder / "syncs")),
        (
            Aim("admit + settle, process, to the raw ledger", process_whole, most=1.5),
            Aim("admit + settle, power, to one fdatasync + raw ledger", power_whole, most=1.5),
            Aim("refused admit, process, to the raw ledger", refused, most=0.3),
        ),
    )


def _whole_process(folder: Path, rounds: int) -> tuple[list[Row], float]:
    floor = Floor(folder / "raw-process.db", durability="process")
    ours = Ours(folder / "ours-process.db", durability="process")
    with closing(floor), closing(ours):
        raw, whole = interleaved(rounds, floor.call, ours.call, before=(ours.prepare,))
        floor.check()
        ours.check()
    return [Row("raw ledger", raw), Row("admit + settle", whole, raw)], ratio(whole, raw)


def _whole_power(folder: Path, rounds: int) -> tuple[list[Row], float]:
    floor = Floor(folder / "raw-power.db", durability="power")
    quick = Floor(folder / "raw-quick.db", durability="process")
    ours = Ours(folder / "ours-power.db", durability="power")
    sync = Sync(folder / "sync", grows=False)
    with closing(floor), closing(quick), closing(ours), closing(sync):
        works = (floor.call, quick.call, sync.call, ours.call)
        raw, raw_quick, synced, whole = interleaved(rounds, *works, before=(ours.prepare,))
        for checked in (floor, quick, ours):
            checked.check()
    least = together(raw_quick, synced)
    rows = [
        Row("one fdatasync + raw ledger, process", least),
        Row("admit + settle, to that", whole, least),
        Row("raw ledger", raw),
        Row("admit + settle, to this", whole, raw),
    ]
    return rows, ratio(whole, least)


def _parts(folder: Path, rounds: int, durability: str) -> tuple[list[Row], float]:
    """Measure the parts of a call; the second value is what a refusal costs, as a ratio."""

    def ours(name: str, policy: Policy | None = None) -> Ours:
        path = folder / f"{name}-{durability}.db"
        return opened.enter_context(closing(Ours(path, durability=durability, policy=policy)))

    with ExitStack() as opened:
        floor = Floor(folder / f"parts-{durability}.db", durability=durability)
        opened.enter_context(closing(floor))
        halves, limited, none_left = (
            ours("halves"),
            ours("many", _LIMITED),
            ours("no", Policy(cap=0)),
        )
        halves.admit()  # one in stock: settling may come first in a round
        works = (floor.call, halves.admit, halves.settle, none_left.refused, limited.call)
        before = [found.prepare for found in (halves, limited, none_left)]
        raw, *times = interleaved(rounds, *works, before=before)
        for checked in (floor, halves, limited):
            checked.check()
        none_left.check_refused()
    names = ("admit", "settle", "refused admit", "admit + settle, daily cap and limit")
    rows = [Row(what, taken, raw) for what, taken in zip(names, times, strict=True)]
    return rows, ratio(times[2], raw)
