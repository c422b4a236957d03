"""From SQLSTATE to an error of ours: total over PostgreSQL's appendix A, by class where not by code.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html. A code outside the appendix can
only come from ``RAISE`` (or an extension) and counts as raised on purpose.
"""

import psycopg2.errorcodes

from gateway import errors

APPENDIX_A = frozenset(
    code
    for name, code in vars(psycopg2.errorcodes).items()
    if name.isupper() and isinstance(code, str) and len(code) == 5
)

_BY_CODE: dict[str, type[errors.GatewayError]] = {
    "23502": errors.InvalidArguments,
    "23514": errors.InvalidArguments,
    "40002": errors.Conflict,
    "40003": errors.ConnectionLost,
    "42501": errors.Forbidden,
    "55P03": errors.LockTimeout,
    "57014": errors.Cancelled,
}

_BY_CLASS: dict[str, type[errors.GatewayError]] = {
    "00": errors.Raised,
    "01": errors.Raised,
    "02": errors.Raised,
    "08": errors.Raised,  # with the connection alive it was a function that said so
    "21": errors.InvalidArguments,
    "22": errors.InvalidArguments,
    "23": errors.Conflict,
    "28": errors.BackendUnavailable,
    "38": errors.Raised,
    "39": errors.Raised,
    "3D": errors.BackendUnavailable,
    "40": errors.SerializationFailure,
    "44": errors.InvalidArguments,
    "53": errors.BackendUnavailable,
    "54": errors.InvalidArguments,
    "57": errors.BackendUnavailable,
    "58": errors.BackendUnavailable,
    "72": errors.BackendUnavailable,
    "F0": errors.InternalError,
    "HV": errors.Raised,
    "P0": errors.Raised,
    "XX": errors.InternalError,
}
"""What is not here (03, 09, 0A, 0B, 0F, 0L, 0P, 0Z, 10, 20, 24-27, 2B, 2D, 2F, 34, 3B, 3F, 42, 55): query_broken."""


def error_class(sqlstate: str) -> type[errors.GatewayError]:
    """Tell the class of error for any SQLSTATE that came over a connection which is still alive."""
    if sqlstate not in APPENDIX_A or sqlstate == "57P01":
        return errors.Raised
    return _BY_CODE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], errors.QueryBroken)
