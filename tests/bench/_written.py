"""How the figures get into the documentation: a page of tables, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench._plot import drawn
from tests.bench._report import Section, aims_table, verdict

_HEAD = """\
# Figures

Written by `python -m tests.bench{short} --write docs/performance`; do not edit. What they mean, and
how they were taken, stands in [performance](index.md).

{machine}."""
_SHORT = "This was the short form: too few calls to judge by, and no large ledger. It shows that it all runs."


def write(folder: Path, machine: str, sections: Sequence[Section], *, short: bool) -> None:
    """Write ``figures.md`` and, if there is something to draw, ``figures.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = [chart for section in sections for chart in section.charts]
    aims = [aim for section in sections for aim in section.aims]
    parts = [_HEAD.format(short=" --short" if short else "", machine=machine)]
    if short:
        parts.append(_SHORT)
    if charts:
        (folder / "figures.svg").write_text(drawn(charts), "utf-8")
        parts.append(f"![{'; '.join(chart.title for chart in charts)}](figures.svg)")
    if aims:
        parts += ["## Aims", verdict(aims), aims_table(aims)]
    parts += [section.markdown().rstrip() for section in sections]
    (folder / "figures.md").write_text("\n\n".join(parts) + "\n", "utf-8")
