"""For all tests: temporary folders whose paths are short."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In place of pytest's own, whose path has the test's name in it: a unix socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gateway-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
