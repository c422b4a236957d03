"""Host names that a test can change: the gateway's processes look them up in a file (``names/sitecustomize``)."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.live.gateways import PACKAGE

_SITE = Path(__file__).parent / "names"


class Names:
    """A file of names below ``.chaos``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "names.json"
        self._entries: dict[str, dict[str, object]] = {}
        self._write()

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a process that is to use it."""
        return {"PYTHONPATH": f"{_SITE}{os.pathsep}{PACKAGE}", "CHAOS_NAMES": str(self._file)}

    def set(self, name: str, addresses: Sequence[str], *, seconds: float = 0.0) -> None:
        """From now on the name has these addresses, and looking it up takes so long."""
        self._entries[name] = {"addresses": list(addresses), "seconds": seconds}
        self._write()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._entries))
        new.replace(self._file)
