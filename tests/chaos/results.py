"""What scenarios measure, and what is asked of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One measured value and the limit it is to keep."""

    what: str
    value: float
    asked: float
    unit: str = ""
    least: bool = False
    """Whether ``asked`` is the least it may be, not the most."""

    @property
    def kept(self) -> bool:
        """Whether it is within its limit."""
        return self.value >= self.asked if self.least else self.value <= self.asked

    def worse(self, other: "Figure") -> "Figure":
        """The one of two that speaks more against the gateway."""
        return min(self, other, key=lambda one: one.value if self.least else -one.value)

    @property
    def measured(self) -> str:
        """The value for people."""
        return _show(self.value, self.unit)

    @property
    def wanted(self) -> str:
        """The limit for people."""
        if self.asked == 0 and not self.least:
            return "0"
        return f"{'≥' if self.least else '≤'} {_show(self.asked, self.unit)}"


@dataclass
class Row:
    """A scenario's figures, each the worst of all runs."""

    subject: str
    name: str
    what: str
    runs: int = 0
    missed: int = 0
    """In how many runs some figure was not kept, or the rig broke."""
    figures: dict[str, Figure] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What kept runs from being finished."""

    @property
    def kept(self) -> bool:
        """Whether every figure of every run was."""
        return bool(self.runs) and not self.missed

    @property
    def verdict(self) -> str:
        """In a word, and how often."""
        if self.kept:
            return "kept" if self.runs == 1 else f"kept {self.runs} times"
        word = "BROKEN" if self.faults else "MISSED"
        return word if self.runs == 1 else f"{word} {self.missed} of {self.runs}"

    def add(self, figures: Iterable[Figure], remarks: Sequence[str]) -> str:
        """Take in one run; an exception out of ``figures`` is a fault of the rig, and the run counts as missed.

        Returns what was missed, for people; empty if nothing was.
        """
        self.runs += 1
        missed = []
        try:
            for figure in figures:
                if not figure.kept:
                    missed.append(f"{figure.what}: {figure.measured}")
                before = self.figures.get(figure.what, figure)
                self.figures[figure.what] = before.worse(figure)
        except Exception as error:  # noqa: BLE001 -- one scenario must not end all
            self.faults.append(f"{type(error).__name__}: {error}")
            missed.append(self.faults[-1])
        if missed:
            self.missed += 1
            self.remarks.extend(remark for remark in remarks if remark not in self.remarks)
        return "; ".join(missed)


def _show(value: float, unit: str) -> str:
    if value == float("inf"):
        return "never"
    text = f"{value:,.0f}" if unit in ("", "ms") else f"{value:.2f}" if unit == "s" else f"{value:.3g}"
    return f"{text} {unit}".rstrip()
