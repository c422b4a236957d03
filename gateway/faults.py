"""What is wrong in what a user wrote: query files, the settings file, the environment."""

from collections.abc import Sequence
from typing import Literal

import msgspec


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing wrong in what a user wrote: a query file, the settings file, the environment."""

    where: str
    """A file's path, or the name of an environment variable."""
    line: int
    """1-based; 0 where a line makes no sense."""
    message: str

    def __str__(self) -> str:
        """The fault as a compiler prints it: ``file:line: message``."""
        return f"{self.where}:{self.line}: {self.message}" if self.line else f"{self.where}: {self.message}"


class Finding(msgspec.Struct, frozen=True, order=True):
    """Something that a check has found; ``rule`` names the kind, for programs."""

    rule: str
    level: Literal["error", "warning", "note"]
    """An error is a fault that keeps from serving."""
    fault: Fault

    def __str__(self) -> str:
        """The finding as a compiler prints it."""
        said = f"warning: {self.fault.message}" if self.level == "warning" else self.fault.message
        return str(msgspec.structs.replace(self.fault, message=said)) if self.fault.where else said


class FaultsFound(Exception):
    """What a user wrote cannot be served; carries every fault, not only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))
