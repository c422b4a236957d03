"""The secret that cursors are signed with: of a file that all nodes have, or else of this node's workers."""

import secrets
from contextlib import suppress
from pathlib import Path

NAME = "cursor-secret"
_BYTES = 32


def signing_secret(file: str, directory: Path | None) -> bytes:
    """Return what is in the file; without one what the node's workers share, until the node ends; else one's own."""
    if file:
        return Path(file).read_bytes().strip()
    if directory is None:
        return secrets.token_bytes(_BYTES)
    path = directory / NAME
    own = directory / f"{NAME}.{secrets.token_hex(8)}"
    with suppress(FileNotFoundError):
        return path.read_bytes()
    own.touch(0o600, exist_ok=False)
    own.write_bytes(secrets.token_bytes(_BYTES))
    # The first worker's stays: a link is made as a whole or not at all, and never in the place of another.
    with suppress(FileExistsError):
        path.hardlink_to(own)
    own.unlink()
    return path.read_bytes()
