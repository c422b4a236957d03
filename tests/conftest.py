"""For all tests: temporary folders whose paths are short, and no time limits that depend on the machine."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In place of pytest's own, whose path has the test's name in it: a unix socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gateway-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
