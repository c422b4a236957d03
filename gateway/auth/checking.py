"""Whether callers can be verified as ``[auth]`` says: what is wrong with the files it names, before anything serves."""

import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gateway.auth import keys_file
from gateway.faults import Fault, FaultsFound
from gateway.settings import AuthSettings


def faults_of(auth: AuthSettings) -> Iterator[Fault]:
    """Find every fault of the files that the settings name."""
    if "keys" in auth.mode and auth.keys_file:
        try:
            keys_file.read(Path(auth.keys_file))
        except FaultsFound as found:
            yield from found.faults
    if "jwt" not in auth.mode:
        return
    if importlib.util.find_spec("jwt") is None or importlib.util.find_spec("cryptography") is None:
        yield Fault("auth.mode", 0, '"jwt" needs PyJWT and cryptography: pip install "pg-query-gateway[jwt]"')
        return
    yield from _faults_of_key_set(auth)


def _faults_of_key_set(auth: AuthSettings) -> Iterator[Fault]:
    from gateway.auth.key_set import KeySet, Unusable

    for file in filter(None, (auth.jwks_file, auth.jwt_secret_file)):
        try:
            content = Path(file).read_bytes()
            if file == auth.jwks_file:
                KeySet.parse(content, auth.algorithms)
            else:
                KeySet.of_secret(content.rstrip(b"\r\n"), auth.algorithms)
        except OSError as error:
            yield Fault(file, 0, f"cannot be read: {error.strerror}")
        except Unusable as error:
            yield Fault(file, 0, str(error))


def warnings_of(auth: AuthSettings) -> Iterator[str]:
    """Find what is served and may not be meant."""
    with suppress(OSError):
        if "keys" in auth.mode and Path(auth.keys_file).stat().st_mode & 0o077:
            yield f"{auth.keys_file} may be read by others: chmod 600"
