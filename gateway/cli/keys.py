"""``gateway key``: makes, lists and revokes API keys."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.cli.options import Duration, config_option
from gateway.cli.reporting import count, fail, print_columns
from gateway.faults import Fault, FaultsFound
from gateway.settings import DEFAULT_FILE, examine

_PARAMETER = re.compile(r"([^\s=]+)=(.*)", re.DOTALL)


@click.group()
def key() -> None:
    """Make, list and revoke API keys: who may call, where [auth] mode has "keys".

    They are in the file that [auth] keys_file names, which holds hashes only. A running gateway follows every change
    of it within two seconds.
    """


@key.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="May be repeated.")
@click.option("--expires", type=Duration(), metavar="TIME", help="After which it is refused.  [default: never]")
@click.option("--rate", metavar="RATE", help="How often it may be used, such as 100/s.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE",
              help="What bound parameters and settings of its caller take; may be repeated.")  # fmt: skip
@config_option
def new(
    name: str, roles: tuple[str, ...], expires: float | None, rate: str | None, parameters: tuple[str, ...],
    config: Path | None,
) -> None:  # fmt: skip
    """Make a key of the caller NAME, and show it: once, as only its hash is kept.

    \b
    gateway key new orders --role sales --expires 90d
    gateway key new acme --role shop --parameter tenant_id=7
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    given = {}
    for text in parameters:
        if (pair := _PARAMETER.fullmatch(text)) is None:
            raise click.BadParameter("is written NAME=VALUE", param_hint="--parameter")
        given[pair[1]] = pair[2]
    with _changing(config) as (text, held, write):
        made, key = _made(name, roles, expires=expires, rate=rate, parameters=given)
        write(keys_file.added(text, key), [*held, key])
    _show(made, key)


@key.command("list")
@config_option
def list_keys(config: Path | None) -> None:
    """List the keys: id, name, roles, when each was made and expires.

    \b
    gateway key list
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    try:
        held = keys_file.read(_file(config))
    except FaultsFound as error:
        fail(error.faults)
    now = time.time()
    rows = [("ID", "NAME", "ROLES", "CREATED", "EXPIRES")]
    rows += [
        (each.id, each.name, ",".join(each.roles) or "-", _day(each.created), _expiry(each.expires, now))
        for each in held
    ]
    print_columns(rows)


@key.command()
@click.argument("key_id", metavar="ID")
@config_option
def revoke(key_id: str, config: Path | None) -> None:
    """Take the key with this ID out of the file, for good.

    \b
    gateway key revoke 3nQ7xw0L
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    with _changing(config) as (text, held, write):
        index = next((index for index, each in enumerate(held) if each.id == key_id), None)
        if index is None:
            raise FaultsFound([Fault(str(_file(config)), 0, f"there is no key {key_id}; see gateway key list")])
        write(keys_file.removed(text, index), [*held[:index], *held[index + 1 :]])
    click.echo(f"{key_id} is revoked: a running gateway refuses it within two seconds")


@key.command()
@click.argument("name")
@click.option("--overlap", type=Duration(), default="24h", show_default=True, metavar="TIME",
              help="For how long the keys that it replaces stay in force.")  # fmt: skip
@click.option(
    "--expires", type=Duration(), metavar="TIME", help="After which the new one is refused.  [default: never]"
)
@config_option
def rotate(name: str, overlap: float, expires: float | None, config: Path | None) -> None:
    """Make a new key of the caller NAME, like its newest, and let the others expire.

    \b
    gateway key rotate orders --overlap 1h
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    with _changing(config) as (text, held, write):
        named = [each for each in held if each.name == name]
        if not named:
            raise FaultsFound([Fault(str(_file(config)), 0, f"there is no key of {name}; see gateway key list")])
        newest = max(named, key=lambda each: each.created)
        ends = float(int(time.time() + overlap))
        changed = list(held)
        for index, each in enumerate(held):
            if each.name == name and (each.expires is None or each.expires > ends):
                text = keys_file.expiring(text, index, ends)
                changed[index] = msgspec.structs.replace(each, expires=ends)
        made, key = _made(name, newest.roles, expires=expires, rate=newest.rate, parameters=newest.parameters)
        write(keys_file.added(text, key), [*changed, key])
    _show(made, key)
    click.echo(
        f"{count(len(named), 'key', 'keys')} of {name} that were there before are refused from {_day(ends)} on",
        err=True,
    )


def _made(
    name: str, roles: tuple[str, ...], *, expires: float | None, rate: str | None, parameters: Mapping[str, Any]
) -> tuple[str, Key]:
    """A new key, and what is kept of it."""
    made, now = keys.make(), int(time.time())
    return made, Key(
        id=keys.id_of(made) or "",
        sha256=keys.digest_of(made).hex(),
        name=name,
        roles=tuple(dict.fromkeys(roles)),
        created=float(now),
        expires=None if expires is None else float(int(now + expires)),
        rate=rate,
        parameters=dict(parameters),
    )


def _show(made: str, key: Key) -> None:
    click.echo(f"the key {key.id} of {key.name}; it is shown this once:", err=True)
    click.echo(made)


@contextmanager
def _changing(config: Path | None) -> Iterator[tuple[str, list[Key], Callable[..., None]]]:
    """The file of keys for one change, or the end of the command with what is wrong."""
    file = _file(config)
    try:
        with keys_file.changing(file) as held:
            yield held
    except FaultsFound as error:
        fail(error.faults)
    except OSError as error:
        fail([Fault(str(error.filename or file), 0, f"cannot be written: {error.strerror}")])


def _file(config: Path | None) -> Path:
    """The file that the settings name; other faults of theirs are no business of the keys'."""
    found = examine(config, with_secrets=False)
    if found.settings is None:
        fail(found.faults)
    if not found.settings.auth.keys_file:
        where = str(config or DEFAULT_FILE)
        fail([Fault(where, 0, 'there is no keys_file: write [auth], mode = "keys" and keys_file = "keys.toml"')])
    return Path(found.settings.auth.keys_file)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


def _expiry(expires: float | None, now: float) -> str:
    if expires is None:
        return "never"
    return f"{_day(expires)}{' (expired)' if expires <= now else ''}"
