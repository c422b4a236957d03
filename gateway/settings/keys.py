"""How a key of the settings is declared: the kinds of values there are, and what a field tells of its key.

Durations are float seconds, sizes are int bytes.
"""

from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from gateway.settings.units import Rate

LONGEST_TIMEOUT = 2_147_483.0
"""Seconds; PostgreSQL counts ``statement_timeout`` in milliseconds, in an int4."""
LONGEST = 10 * 366 * 86_400.0

Timeout = Annotated[float, Meta(ge=0.001, le=LONGEST_TIMEOUT, extra={"kind": "duration"})]
"""A duration that PostgreSQL accepts as a time-out, too."""
Duration = Annotated[float, Meta(ge=0.001, le=LONGEST, extra={"kind": "duration"})]
Delay = Annotated[float, Meta(ge=0.0, le=3600.0, extra={"kind": "duration"})]
"""A duration that may be none at all."""
Size = Annotated[int, Meta(ge=1, le=2**40, extra={"kind": "size"})]
Often = Annotated[Rate, Meta(extra={"kind": "rate"})]
File = Annotated[str, Meta(extra={"kind": "file"})]
"""A path; a relative one counts from the folder of ``gateway.toml``. Empty: none."""
Paths = Annotated[tuple[str, ...], Meta(min_length=1, extra={"kind": "paths"})]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"
]
"""Signatures of tokens."""
Secret = Annotated[str, Meta(extra={"kind": "secret"})]
"""Never shown. Where a struct has a secret ``x`` it has ``x_file``, whose content takes its place."""


class Key(Struct, frozen=True):
    """The declaration of one key."""

    hint: Any
    """Its type, with everything that is annotated to it."""
    kind: str
    """``duration``, ``size``, ``file``, ``paths``, ``rate``, ``secret`` or ``derived``; empty for a plain type."""
    description: str | None
    examples: tuple[Any, ...]

    @property
    def bare(self) -> Any:
        """The type without what is annotated to it."""
        return self.hint.__origin__ if get_origin(self.hint) is Annotated else self.hint

    @property
    def plain(self) -> Any:
        """The type without type arguments, too: ``int``, ``tuple``, ``Literal``."""
        return get_origin(self.bare) or self.bare

    @property
    def choices(self) -> tuple[Any, ...]:
        """The words of a ``Literal``, or of a tuple's."""
        return get_args(get_args(self.bare)[0] if self.plain is tuple else self.bare)


def keys_of(struct: type[Struct]) -> dict[str, Key]:
    """Return what is declared of every key of a section, in the order of the fields."""
    return {name: _key(hint) for name, hint in get_type_hints(struct, include_extras=True).items()}


def _key(hint: Any) -> Key:
    metas: list[Meta] = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    kind = next((str(meta.extra["kind"]) for meta in metas if meta.extra), "")
    description = next((meta.description for meta in reversed(metas) if meta.description is not None), None)
    examples = next((tuple(meta.examples) for meta in reversed(metas) if meta.examples), ())
    return Key(hint, kind, description, examples)
