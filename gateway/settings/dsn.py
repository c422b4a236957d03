"""Connection strings of libpq, looked at without libpq: is the form right, and what may be shown of them.

Both forms of https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING: URIs and
``key=value`` pairs. ``gateway check`` finds out whether a server answers there.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from urllib.parse import unquote

SCHEMES = ("postgresql://", "postgres://")
HIDDEN = "***"

KEYWORDS = frozenset(
    """application_name channel_binding client_encoding connect_timeout dbname fallback_application_name
    gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval
    krbsrvname load_balance_hosts max_protocol_version min_protocol_version oauth_client_id oauth_client_secret
    oauth_issuer oauth_scope options passfile password port replication require_auth requirepeer requiressl
    scram_client_key scram_server_key service servicefile sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey
    sslkeylogfile ssl_max_protocol_version ssl_min_protocol_version sslmode sslnegotiation sslpassword sslrootcert
    sslsni target_session_attrs tcp_user_timeout user""".split()  # noqa: SIM905 - a list would take fifty lines
)
SECRET_KEYWORDS = frozenset({"oauth_client_secret", "password", "scram_client_key", "scram_server_key", "sslpassword"})
CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
"""Keywords with a closed set of values, as far as a wrong one is likely."""

_PAIR = re.compile(r"\s*([^\s='\\]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:\\.|[^\s\\'])(?:\\.|[^\s\\])*|)(?=\s|$)", re.DOTALL)
# Greedy to the last @: a password with an unescaped / or @ must not show its tail.
_USERINFO = re.compile(r"^([a-z]+://[^:@/?]*):.*@", re.DOTALL | re.IGNORECASE)
_PARAMETER = re.compile(r"([?&])([^=&]*)=([^&]*)")
_SECRET_PAIR = re.compile(
    rf"\b({'|'.join(sorted(SECRET_KEYWORDS))})(\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:\\.|[^\s\\])*)", re.DOTALL | re.IGNORECASE
)


def faults_of(dsn: str) -> Iterator[str]:
    """Every fault of form, one sentence each; none of them repeats what may be part of a password."""
    if "\0" in dsn:
        yield "must not contain NUL"
    elif dsn.startswith(SCHEMES):
        yield from _uri_faults(dsn)
    elif "://" in dsn.partition("=")[0]:
        yield 'must begin with postgresql:// or be key=value pairs, such as "host=10.0.0.1 dbname=shop user=gateway"'
    else:
        yield from _pair_faults(dsn)


def masked(dsn: str) -> str:
    """Replace every secret in the connection string; rather too much is hidden than too little."""
    if "://" not in dsn.partition("=")[0]:
        return _SECRET_PAIR.sub(rf"\1\2{HIDDEN}", dsn)
    return _PARAMETER.sub(_masked_parameter, _USERINFO.sub(rf"\1:{HIDDEN}@", dsn))


def _masked_parameter(match: re.Match[str]) -> str:
    key = unquote(match[2]).strip().lower()
    return f"{match[1]}{match[2]}={HIDDEN}" if key in SECRET_KEYWORDS else match[0]


def _uri_faults(dsn: str) -> Iterator[str]:
    _, _, rest = dsn.partition("://")
    address, _, query = rest.partition("?")
    user, _, hosts = address.partition("/")[0].rpartition("@")
    if "@" in user:
        yield "an @ inside the user name or password must be written %40"
    for host in hosts.split(","):
        if host.startswith("["):
            _, closed, port = host.partition("]")
            if not closed:
                yield "an IPv6 address lacks its closing ]"
                continue
        else:
            _, _, port = host.partition(":")
        yield from _port_faults(port.removeprefix(":"))
    for parameter in filter(None, query.split("&")):
        key, equals, value = parameter.partition("=")
        if not equals:
            yield "a parameter behind the ? has no value"
        else:
            yield from _keyword_faults(unquote(key), unquote(value), also=("ssl",))


def _pair_faults(dsn: str) -> Iterator[str]:
    at = 0
    if not dsn.strip():
        yield 'is empty; write for example "host=10.0.0.1 dbname=shop user=gateway"'
    while at < len(dsn.rstrip()):
        match = _PAIR.match(dsn, at)
        if match is None:
            yield "is not a list of key=value pairs (a value with spaces stands in single quotes)"
            return
        yield from _keyword_faults(match[1], match[2].strip("'"))
        at = match.end()


def _keyword_faults(key: str, value: str, *, also: tuple[str, ...] = ()) -> Iterator[str]:
    if key not in KEYWORDS and key not in also:
        # SECURITY: an unquoted password with spaces ends up here, so the word is shown only if it is a typing error.
        close = get_close_matches(key, KEYWORDS, 1, 0.75)
        yield f'has an unknown keyword "{key}"; did you mean "{close[0]}"?' if close else "has an unknown keyword"
    elif key == "port":
        for port in value.split(","):
            yield from _port_faults(port)
    elif key in CHOICES and value not in CHOICES[key]:
        yield f"{key} must be one of {', '.join(CHOICES[key])}"
    elif key == "client_encoding" and value.upper().replace("-", "") not in ("UTF8", "UNICODE"):
        yield "client_encoding must be UTF8: requests and answers are, and the server converts; leave it out"
    elif key == "replication" and value.lower() not in ("", "false", "off", "no", "0"):
        yield "replication must be left out: a connection for replication runs no queries"


def _port_faults(port: str) -> Iterator[str]:
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        yield "has a port that is not a number from 1 to 65535 (in a password, / is written %2F)"
