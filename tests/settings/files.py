"""Writes gateway.toml into the folder at hand, and reads it as `gateway serve` does."""

from pathlib import Path

from gateway.settings import Settings, examine, load_settings

DSN = "host=127.0.0.1 dbname=shop user=gateway"


def write(text: str, name: str = "gateway.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(text: str = "", **environ: str) -> Settings:
    """Settings of a file with one good endpoint and this text before it."""
    return load_settings(write(f'{text}\n[endpoints.primary]\ndsn = "{DSN}"\n'), environ)


def faults(
    text: str = "", *, endpoint: bool = True, overrides: dict[str, str] | None = None, **environ: str
) -> list[str]:
    if endpoint:
        text += f'\n[endpoints.primary]\ndsn = "{DSN}"\n'
    return [str(fault) for fault in examine(write(text), environ, overrides).faults]
