"""What a bench has to say: tables, aims that were met or missed, and charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure, and what it was meant to be: at *most*, or at *least*."""

    what: str
    got: float
    most: float | None = None
    least: float | None = None
    unit: str = "×"  # noqa: RUF001 -- a multiplication sign is meant

    @property
    def met(self) -> bool:
        """Whether the figure is what it was meant to be."""
        over = self.most is not None and self.got > self.most
        under = self.least is not None and self.got < self.least
        return not (over or under)

    def cells(self) -> tuple[str, ...]:
        """Return what it is, the aim, the figure and the verdict."""
        bounds = [
            f"{sign} {bound:g}{self.unit}"
            for sign, bound in (("≥", self.least), ("≤", self.most))
            if bound is not None
        ]
        verdict = "met" if self.met else "**missed**"
        digits = 0 if self.got >= 100 else 2
        return self.what, " and ".join(bounds), f"{self.got:,.{digits}f}{self.unit}", verdict


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Values over a few places, which stand at even distances."""

    title: str
    places: Sequence[str]
    series: Sequence[Series]
    log: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """What one bench measured; *parts*: paragraphs and tables, in order."""

    title: str
    parts: Sequence[str]
    aims: Sequence[Aim] = ()
    charts: Sequence[Chart] = ()

    def markdown(self) -> str:
        """Return it as Markdown, without the aims."""
        return "\n\n".join((f"## {self.title}", *self.parts)) + "\n"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all but its first column are aligned to the right."""
    marks = ["---", *(["---:"] * (len(head) - 1))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *lines))


def verdict(aims: Sequence[Aim]) -> str:
    """Return how many aims were met."""
    return f"{sum(aim.met for aim in aims)} of {len(aims)} aims are met."


def aims_table(aims: Sequence[Aim]) -> str:
    """Return the aims as a Markdown table."""
    return table(("aim", "wanted", "measured", ""), [aim.cells() for aim in aims])
