"""The level that an operator has set is that of workers that start later, until another one is configured."""

from pathlib import Path

from gateway.node.log_level import LogLevel


def test_it_is_kept_until_another_one_is_configured(tmp_path: Path) -> None:
    assert LogLevel(tmp_path, "info").kept() is None
    LogLevel(tmp_path, "info").keep("debug")
    assert LogLevel(tmp_path, "info").kept() == "debug"
    assert LogLevel(tmp_path, "warning").kept() is None


def test_without_a_directory_nothing_is_kept() -> None:
    level = LogLevel(None, "info")
    level.keep("debug")
    assert level.kept() is None


def test_a_directory_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    level = LogLevel(tmp_path / "gone", "info")
    level.keep("debug")
    assert level.kept() is None
