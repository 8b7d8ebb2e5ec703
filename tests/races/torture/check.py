"""Was every promise kept? Each check reads the facts and says what contradicts it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from tests.races.torture.facts import MICROS_PER_CENT, Facts, Row

_IN_DOUBT = ("reserved", "unknown")
_MICROS_PER_DAY = 86_400_000_000
_ENDINGS = ("settled", "voided")


def violations(facts: Facts) -> list[str]:
    """Return everything that is wrong, each as ``name of the check: what``."""
    return [f"{check.__name__}: {what}" for check in CHECKS for what in check(facts)]


def counted(row: Row) -> int:
    """Return what a row counts for, in micros."""
    return int(row["reserved"] if row["state"] in _IN_DOUBT else row["cost"] or 0)


def exposure(scope: Row) -> int:
    """Return what a scope says it has spent and reserved, in micros."""
    return int(scope["spent"] + scope["reserved"])


def over_cap(facts: Facts) -> Iterator[str]:
    """G1: no scope is over its cap, neither by its totals nor by its rows."""
    by_rows: Counter[int] = Counter()
    for row in facts.rows:
        by_rows.update(dict.fromkeys(row["scopes"], counted(row)))
    # A run that has its cap per day may have begun before midnight.
    days = len({row["at"] // _MICROS_PER_DAY for row in facts.rows})
    for pk, scope in facts.scopes.items():
        cap = scope["cap"]
        if cap is None and scope["label"] in facts.caps:
            cap = facts.caps[scope["label"]] * days
        if cap is not None and max(exposure(scope), by_rows[pk]) > cap:
            yield f"{scope['label']}: {exposure(scope)}, by its rows {by_rows[pk]}, of {cap}"


def moved_beyond(facts: Facts) -> Iterator[str]:
    """G2: what moved is within what is counted, for every scope."""
    by_rows: Counter[int] = Counter()
    by_journal: Counter[str] = Counter()
    for entry in facts.moved:
        micros = entry["amount"] * MICROS_PER_CENT
        admitted = facts.admitted(entry["amount"])
        by_rows.update(dict.fromkeys(admitted[0]["scopes"] if admitted else (), micros))
        # What the request itself says, whatever the ledger says.
        by_journal[entry["params"]["metadata"]["run"]] += micros
    for pk, scope in facts.scopes.items():
        moved = max(by_rows[pk], by_journal[scope["label"]])
        if moved > exposure(scope):
            yield f"{scope['label']}: {moved} moved, {exposure(scope)} counted"


def charge_without_row(facts: Facts) -> Iterator[str]:
    """G3, G4: every charge has the row it was let through by, and no second one."""
    for entry in facts.moved:
        key, cents = entry["idempotency_key"], entry["amount"]
        own = key.startswith("kb-")
        rows = [row for row in facts.admitted(cents) if key in _keys(row)]
        if not rows or (own and len(facts.calls[cents]) != 1):
            states = [row["state"] for row in facts.calls.get(cents, ())]
            yield f"{key}: {cents} cents moved once, rows: {states}"


def _keys(row: Row) -> tuple[str, str | None]:
    return f"kb-{row['uid']}", row["idempotency_key"]


def charge_void(facts: Facts) -> Iterator[str]:
    """G7: no charge is void, or counts for less than what moved."""
    for entry in facts.moved:
        cents = entry["amount"]
        rows = facts.admitted(cents)
        total = sum(map(counted, rows))
        if rows and total < cents * MICROS_PER_CENT:
            states = [row["state"] for row in rows]
            yield f"{entry['idempotency_key']}: {cents} cents moved, {total} count: {states}"


def cost_invented(facts: Facts) -> Iterator[str]:
    """What is settled is what moved, and no more."""
    moved = Counter(entry["amount"] for entry in facts.moved)
    for cents, rows in facts.calls.items():
        cost = sum(row["cost"] or 0 for row in rows if row["state"] == "settled")
        if cost > moved[cents] * cents * MICROS_PER_CENT:
            yield f"{cents} cents moved {moved[cents]} times, {cost} are settled"


def row_vanished(facts: Facts) -> Iterator[str]:
    """G4: what a worker was told is in the ledger: a row for each call, as it was told."""
    begun: Counter[int] = Counter()
    told: defaultdict[int, list[Row]] = defaultdict(list)
    for record in facts.records:
        if record["what"] == "begun":
            begun[record["cents"]] += 1
        elif "cents" in record and _has_row(record):
            told[record["cents"]].append(record)
    for cents in facts.calls.keys() | told.keys():
        rows, records = facts.calls.get(cents, []), told[cents]
        states = [row["state"] for row in rows]
        if not len(records) <= len(rows) <= begun[cents]:
            yield f"{cents} cents: {begun[cents]} begun, {len(records)} ended, rows: {states}"
        for record in records:
            if not any(_tells(row, record) for row in rows):
                yield f"{cents} cents: {record} is in none of {states}"


def _has_row(record: Row) -> bool:
    # A task that is cancelled while it waits for the ledger has not been let through.
    return record["what"] != "cancelled" and record.get("reason") != "ledger_unavailable"


def _tells(row: Row, record: Row) -> bool:
    if record["what"] == "refused":
        return row["state"] == "refused" and row["reason"] == record["reason"]
    if record["what"] == "answered":
        # Still reserved: the outcome could not be written down, of which there is a warning.
        return row["object_id"] == record["object_id"] or row["state"] == "reserved"
    return row["state"] != "refused"


def totals_differ(facts: Facts) -> Iterator[str]:
    """Running totals are the sums of the rows: of scopes, of windows, of endpoints."""
    sums: defaultdict[object, Counter[str]] = defaultdict(Counter)
    for row in facts.rows:
        adds = _adds(row)
        for total in (*row["scopes"], *row["buckets"], row["endpoint"]):
            sums[total].update(adds)
    shown: dict[object, Row] = dict(facts.scopes)
    shown |= {(row["scope"], row["rule"], row["at"]): row for row in facts.buckets}
    shown |= {row["endpoint"]: row for row in facts.totals}
    for total in shown.keys() | sums.keys():
        row, summed = shown.get(total, {}), sums[total]
        for column in ("spent", "reserved", "calls", "refused"):
            # Windows count no refusals.
            said = row.get(column, 0 if total not in shown else summed[column])
            if said != summed[column]:
                yield f"{row.get('label', total)}: {column} is {said}, by the rows {summed[column]}"


def _adds(row: Row) -> dict[str, int]:
    if row["state"] == "refused":
        return {"refused": 1}
    return {"reserved" if row["state"] in _IN_DOUBT else "spent": counted(row), "calls": 1}


def events_differ(facts: Facts) -> Iterator[str]:
    """The chain has every number once, in the order of time, and says what the rows say."""
    if [event["seq"] for event in facts.events] != list(range(1, len(facts.events) + 1)):
        yield f"the numbers of {len(facts.events)} events have gaps"
    times = [event["at"] for event in facts.events]
    if times != sorted(times):
        yield "ledger time ran backwards"
    sums: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for event in facts.events:
        sums[event["call"]].update(reserved=event["reserved"], spent=event["spent"])
    for row in facts.rows:
        said, adds = sums[row["seq"]], _adds(row)
        if any(said[column] != adds.get(column, 0) for column in ("reserved", "spent")):
            yield f"call {row['seq']} is {row['state']}, {adds}; its events say {dict(said)}"


def ended_twice(facts: Facts) -> Iterator[str]:
    """G5: a call begins once, and ends at most once and for good."""
    lives: defaultdict[int, list[str]] = defaultdict(list)
    for event in facts.events:
        if event["call"] is not None:
            lives[event["call"]].append(event["kind"])
    for call, kinds in lives.items():
        begins = sum(kind in ("admitted", "refused") for kind in kinds)
        ends = [kind in _ENDINGS for kind in kinds]
        if begins != 1 or sum(ends) > 1 or (any(ends) and not ends[-1]):
            yield f"call {call}: {kinds}"


def revoked_charged(facts: Facts) -> Iterator[str]:
    """G8: after a revocation nothing is let through, by the ledger's order and by the clock."""
    ended = {event["scope"]: event["seq"] for event in facts.events if event["kind"] == "revoked"}
    rows = {row["seq"]: row for row in facts.rows}
    for event in facts.events:
        row = rows.get(event["call"])
        if row is not None and event["kind"] == "admitted":
            for pk in row["scopes"]:
                if event["seq"] > ended.get(pk, event["seq"]):
                    yield f"call {row['seq']} came after {facts.scopes[pk]['label']} was revoked"
    first: dict[int, Row] = {}
    for record in facts.records:
        # A call that is made again with its key may have moved the money at its first attempt,
        # before the revocation: whether the second was let through is told by the order above.
        if record["what"] == "begun":
            first.setdefault(record["cents"], record)
    for entry in facts.moved:
        record = first.get(entry["amount"])
        if record and record["at"] > facts.revoked_at.get(record["run"], record["at"]):
            yield f"{entry['amount']} cents moved, but {record['run']} had been revoked before"


def refused_without_cause(facts: Facts) -> Iterator[str]:
    """A ledger that is whole is never refused as damaged, replaced or gone."""
    for record in facts.records:
        unavailable = record.get("reason") == "ledger_unavailable"
        if unavailable and "it was not free within" not in record["why"]:
            yield str(record["why"])


def process_failed(facts: Facts) -> Iterator[str]:
    """No worker ends by an error of its own."""
    for record in facts.records:
        if record["what"] == "crashed":
            yield f"{record['by']}: {record['why']}"


def file_damaged(facts: Facts) -> Iterator[str]:
    """SQLite finds the file in order."""
    if facts.damage:
        yield facts.damage


CHECKS: tuple[Callable[[Facts], Iterator[str]], ...] = (
    over_cap,
    moved_beyond,
    charge_without_row,
    charge_void,
    cost_invented,
    row_vanished,
    totals_differ,
    events_differ,
    ended_twice,
    revoked_charged,
    refused_without_cause,
    process_failed,
    file_damaged,
)
