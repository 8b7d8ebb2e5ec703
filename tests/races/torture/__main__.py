"""Is there any way to talk, race or crash a ledger out of its promise? ``python -m tests.races.torture``."""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.races.torture import check, facts
from tests.races.torture.broken import ENGINES
from tests.races.torture.driver import Struck, torture
from tests.races.torture.facts import MICROS_PER_CENT, Facts, Row
from tests.races.torture.plan import Plan, Pressure, draw
from tests.races.torture.stage import set_up

_LONG = Pressure(processes=32, calls=600, kills=500)
_MOST_SHOWN = 12


def main(arguments: list[str] | None = None) -> int:
    """Carry out one plan and judge what is left; 1: a promise was broken."""
    options = _parser().parse_args(arguments)
    plan = draw(options.seed, _pressure(options))
    print(f"seed {plan.seed}, plan {plan.digest}, engine {options.broken or 'sound'}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="keybrake-torture-"))
    with set_up(plan, folder, options.broken) as stage:
        struck = torture(stage, limit_s=options.limit)
    found = facts.gather(folder, plan.caps, struck.revoked_at)
    wrong = struck.complaints + _unfulfilled(plan, struck) + check.violations(found)
    verified = "not asked" if options.broken else _verify(folder, wrong)
    print(_table(found, struck, verified, len(wrong)))
    _show(wrong)
    if wrong and not options.broken:
        print(f"everything is kept in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    usual = Pressure()
    parser = argparse.ArgumentParser(prog="python -m tests.races.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--processes", type=int, default=usual.processes)
    parser.add_argument("--calls", type=int, default=usual.calls, help="of each process")
    parser.add_argument("--kills", type=int, default=usual.kills)
    parser.add_argument("--faults", type=float, default=usual.faults, help="share of the calls")
    parser.add_argument("--long", action="store_true", help=f"as hard as {_LONG}")
    parser.add_argument("--broken", choices=ENGINES, default="", help="an engine to be caught")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds until it hangs")
    return parser


def _pressure(options: argparse.Namespace) -> Pressure:
    if options.long:
        return _LONG
    return Pressure(options.processes, options.calls, options.kills, options.faults)


def _unfulfilled(plan: Plan, struck: Struck) -> list[str]:
    """A plan that was not carried out shows nothing."""
    planned = Counter(blow.what for blow in plan.blows)
    planned["killed"], fell = plan.pressure.kills, struck.blows | {"killed": struck.killed}
    return [
        f"process: {planned[what]} times {what} were planned, {fell.get(what, 0)} fell"
        for what in planned
        if fell.get(what, 0) < planned[what]
    ]


def _verify(folder: Path, wrong: list[str]) -> str:
    """Ask the project's own command, too; what it finds is added to what is *wrong*."""
    ledger = f"sqlite:///{folder / 'ledger.db'}"
    command = [sys.executable, "-m", "keybrake", "--ledger", ledger, "verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        wrong.append(f"verify: exit {done.returncode}: {done.stdout}{done.stderr}")
    return f"exit {done.returncode}"


def _table(found: Facts, struck: Struck, verified: str, wrong: int) -> str:
    states = Counter(row["state"] for row in found.rows)
    lines = {
        "calls begun": found.times("begun"),
        "rows": f"{sum(states.values())}: {_listed(states)}",
        **{f"run {run}": _run(found, run) for run in found.caps},
        "vendor": _listed(Counter(e["fault"] or e["http_status"] for e in found.journal)),
        "blows": _listed(Counter(struck.blows)),
        "killed": f"{struck.killed} workers; {_forks(found)} children were forked",
        "ledger not free in time": sum(_unavailable(record) for record in found.records),
        "errors nobody awaited": found.times("left_over"),
        "outcomes not written": found.times("unsettled"),
        "keybrake verify": verified,
        "seconds": f"{struck.took_s:.1f}",
        "violations": wrong,
    }
    return "\n".join(f"{name:25}{value}" for name, value in lines.items())


def _listed(counts: Counter[Any]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in sorted(counts, key=str))


def _run(found: Facts, run: str) -> str:
    scope = next(scope for scope in found.scopes.values() if scope["label"] == run)
    moved = [e["amount"] for e in found.moved if e["params"]["metadata"]["run"] == run]
    exposure, cap = check.exposure(scope), found.caps[run]
    return (
        f"{len(moved)} charges moved {_usd(sum(moved) * MICROS_PER_CENT)}; "
        f"exposure {_usd(exposure)} of {_usd(cap)}"
    )


def _forks(found: Facts) -> int:
    return len({record["by"] for record in found.records if "fork" in record["by"]})


def _unavailable(record: Row) -> bool:
    return record.get("reason") == "ledger_unavailable"


def _usd(micros: int) -> str:
    return f"${micros / MICROS_PER_CENT / 100:.2f}"


def _show(wrong: list[str]) -> None:
    for name, number in Counter(what.partition(":")[0] for what in wrong).items():
        of_it = [what for what in wrong if what.startswith(f"{name}:")]
        print(f"\n{name}: {number}")
        for what in of_it[:_MOST_SHOWN]:
            print("  " + what.partition(": ")[2])


if __name__ == "__main__":
    sys.exit(main())
