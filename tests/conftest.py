"""For all tests: their order, temporary folders with short paths, and no time limits that depend on the machine."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell's background job begins with it ignored, and so would all that tests start and end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of servers: where processes share the tests, short ones fill the gaps at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("image", "live"))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In place of pytest's own, whose path has the test's name in it: a unix socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gateway-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
