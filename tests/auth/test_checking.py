"""What is wrong with the files that ``[auth]`` names."""

from pathlib import Path

from gateway.auth.checking import faults_of, warnings_of
from gateway.settings import AuthSettings
from tests.auth.issuer import SigningKey, key_set


def faults(**auth: object) -> list[str]:
    return [str(fault) for fault in faults_of(AuthSettings(**auth))]  # type: ignore[arg-type]


def test_nothing_is_read_where_nobody_is_asked(tmp_path: Path) -> None:
    assert faults(keys_file=str(tmp_path / "none"), jwks_file=str(tmp_path / "none")) == []


def test_a_file_of_keys_must_be_one(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    assert faults(mode=("keys",), keys_file=str(file)) == [f"{file}: cannot be read: No such file or directory"]
    file.write_text("[[key]]\n")
    assert f"{file}:1: key 1: id must be 8 letters and digits" in faults(mode=("keys",), keys_file=str(file))
    file.write_text("")
    assert faults(mode=("keys",), keys_file=str(file)) == []


def test_a_file_of_keys_that_others_may_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.touch(mode=0o600)
    auth = AuthSettings(mode=("keys",), keys_file=str(file))
    assert list(warnings_of(auth)) == []
    file.chmod(0o640)
    assert list(warnings_of(auth)) == [f"{file} may be read by others: chmod 600"]


def test_a_key_set_must_have_a_key_of_the_algorithms(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    assert faults(mode=("jwt",), jwks_file=str(file)) == [f"{file}: cannot be read: No such file or directory"]
    file.write_bytes(key_set(SigningKey("a", "ES256")))
    assert faults(mode=("jwt",), jwks_file=str(file)) == []
    assert faults(mode=("jwt",), jwks_file=str(file), algorithms=("RS256",)) == [
        f"{file}: none of its 1 keys is a public one for RS256"
    ]


def test_a_secret_must_be_long_enough(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("short\n")
    told = faults(mode=("jwt",), jwt_secret_file=str(file), algorithms=("HS256",))
    assert told == [f"{file}: a secret needs at least 32 bytes, this one has 5"]
    assert "short" not in told[0]
    file.write_text("x" * 32 + "\n")
    assert faults(mode=("jwt",), jwt_secret_file=str(file), algorithms=("HS256",)) == []
