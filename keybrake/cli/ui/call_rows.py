"""Format rows of the call log as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake.cli.ui.table import Cell, Column, Table, is_terminal
from keybrake.cli.ui.text import dollars, moment

STYLES = {
    "refused": "bold red",
    "reserved": "cyan",
    "settled": "green",
    "voided": "dim",
    "unknown": "bold yellow",
    "unguarded": "magenta",
}


def calls_table() -> Table:
    """Return an empty table of calls."""
    return Table(
        Column("#", right=True, style="dim"),
        Column("at (UTC)", style="dim"),
        Column("run", gives_way=1, style="bold"),
        Column("endpoint", gives_way=1),
        Column("amount", right=True, optional=True),
        Column("state"),
        Column("cost", right=True),
        Column("reason, object, tool", gives_way=2, style="dim"),
    )


def call_line(row: Mapping[str, Any]) -> list[Cell | str]:
    """Return one row of the call log as the cells of :func:`calls_table`."""
    style = STYLES.get(row["state"], "")
    return [
        str(row["seq"]),
        moment(row["at"], brief=is_terminal()),
        row["label"] or "(no run)",
        row["endpoint"],
        _amount(row),
        Cell(row["state"], style),
        _cost(row),
        _remark(row),
    ]


def _amount(row: Mapping[str, Any]) -> str:
    """Return the requested amount in the vendor's unit: cents, not dollars."""
    if row["amount"] is None:
        return ""
    return f"{row['amount']} {row['currency'] or ''}".rstrip()


def _cost(row: Mapping[str, Any]) -> Cell:
    # For an open or unknown call, show the reservation in brackets: that amount counts.
    if row["state"] in ("reserved", "unknown"):
        return Cell(f"({dollars(row['reserved_micros'])})", STYLES[row["state"]])
    return Cell(dollars(row["cost_micros"]))


def _remark(row: Mapping[str, Any]) -> str:
    remarks = [
        row["reason"],
        row["would_refuse"] and f"would refuse: {row['would_refuse']}",
        row["object_id"],
        row["tool"] and f"tool {row['tool']}",
    ]
    return ", ".join(str(remark) for remark in remarks if remark)
