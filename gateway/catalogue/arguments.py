"""The arguments of a request to SQL literals: names, types and constraints, every fault at once.

One quoted, untyped literal serves every type inside EXECUTE; a bare number would be converted silently
(``EXECUTE q(1.6)`` on an int4 becomes 2).
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self, TypeVar, cast

import msgspec

from gateway.catalogue import json_text, text_forms
from gateway.catalogue.constraints import Check, checks
from gateway.catalogue.query import Parameter
from gateway.catalogue.types import Family, Type
from gateway.catalogue.values import Pause, Reader, Refused, array_text, no_pause, reader, shortened, suggestion
from gateway.errors import ArgumentFault, Forbidden, InvalidArguments, InvalidJSON

NULL: Final = "NULL"

_MOST_UNKNOWN = 20  # names of a request that are answered one by one
_MOST_SUGGESTED = 3
"""Of those; what a name may have been meant to be is looked for among all parameters, at up to 0.3 ms each."""
_MOST_IN_DETAIL = 3
_FEW = 10
"""Arguments that are bound within some microseconds."""
_LONG = 1000
"""Characters of a value; to check a longer one may take milliseconds."""

_T = TypeVar("_T")
_FromJSON = Callable[[msgspec.Raw], str]
_FromTexts = Callable[[Sequence[str]], str]


def literal(text: str) -> str:
    """The one way by which a value gets into SQL.

    Right with ``standard_conforming_strings`` on and off, in UTF-8. The text must not contain NUL.
    """
    if "'" in text:
        text = text.replace("'", "''")
    if "\\" in text:
        text = text.replace("\\", "\\\\")
        return f"E'{text}'"
    return f"'{text}'"


def _as_it_is(given: Any) -> str:
    """A literal that has been written."""
    written: str = given
    return written


class _Bound(msgspec.Struct, frozen=True):
    """A parameter whose value is the caller's."""

    source: str
    from_json: _FromJSON
    from_text: _FromTexts
    has_default: bool

    def literal_of(self, value: Any) -> str | None:
        """The literal of a value; None if it does not fit."""
        try:
            text = json.dumps(value, ensure_ascii=False)
            raw = json_text.value(text)
        except (InvalidJSON, ValueError):
            return None
        with suppress(Refused):
            return self.from_json(raw)
        if isinstance(value, str | int | float):
            with suppress(Refused):
                return self.from_text([value if isinstance(value, str) else text])
        return None


class Binder:
    """Binds requests to one query's parameters, whose readers and checks it has composed beforehand.

    Stateless after construction, so any number of requests may use it at a time. ``pause`` is called between parts
    of long work.

    Raises :class:`ValueError`, with a sentence for the query's author, where a default or a constraint does not fit
    the parameter's type.
    """

    def __init__(self, parameters: Sequence[Parameter], types: Sequence[Type], pause: Pause = no_pause) -> None:
        self._bound: dict[str, _Bound] = {}
        self._given: Mapping[str, str] = {}
        self._lacking: Sequence[str] = ()
        from_json: list[tuple[str, _FromJSON, str | None]] = []
        from_texts: list[tuple[str, _FromTexts, str | None]] = []
        for parameter, type_ in zip(parameters, types, strict=True):
            try:
                constraints = checks(parameter.constraints, type_)
                convert = _json_converter(reader(type_, pause), constraints, pause)
                default = _default(parameter, convert)
            except ValueError as error:
                raise ValueError(f"parameter {parameter.name}: {error}") from None
            from_text = _text_converter(type_, convert, checked=bool(constraints))
            if parameter.bound is None:
                from_json.append((parameter.name, convert, default))
                from_texts.append((parameter.name, from_text, default))
            else:
                self._bound[parameter.name] = _Bound(parameter.bound, convert, from_text, default is not None)
                from_json.append((parameter.name, _as_it_is, default))
                from_texts.append((parameter.name, _as_it_is, default))
        self.is_bound = bool(self._bound)
        """Whether the caller decides on some of the values."""
        self._pause = pause
        self._from_json = tuple(from_json)
        self._from_texts = tuple(from_texts)

    def filled(self, value_of: Callable[[str], Any]) -> Self:
        """Return a binder for one caller, ``value_of`` whom gives what ``claim:PATH`` and ``key:NAME`` are (or None).

        A value fits as JSON, or as text in the type's own PostgreSQL form. Where a caller lacks one, and where it
        does not fit, the default takes its place if there is one, else every call is refused with Forbidden.
        """
        given, lacking = {}, []
        for name, bound in self._bound.items():
            value = value_of(bound.source)
            literal_of = None if value is None else bound.literal_of(value)
            if literal_of is not None:
                given[name] = literal_of
            elif value is not None or not bound.has_default:
                lacking.append(name)
        made = copy.copy(self)
        vars(made).update(_given=given, _lacking=lacking)
        return made

    def bind_json(self, raw: Mapping[str, msgspec.Raw]) -> list[str]:
        """Literals (or ``NULL``) in the order of ``$1``, ``$2`` …, from JSON texts that ``json_text`` has checked.

        Raises :class:`InvalidArguments` with a fault for every argument that does not fit.
        """
        if self.is_bound:
            return _bind(self._from_json, self._completed(self._from_json, raw), self._pause)
        return _bind(self._from_json, raw, self._pause)

    def bind_text(self, pairs: Mapping[str, Sequence[str]]) -> list[str]:
        """Bind arguments of a query string, each name with all its values as text in the type's own PostgreSQL form.

        ``{…}`` given once, or any other number of values, is an array; JSON types take JSON. No value at all is NULL.

        Raises :class:`InvalidArguments` with a fault for every argument that does not fit.
        """
        if self.is_bound:
            return _bind(self._from_texts, self._completed(self._from_texts, pairs), self._pause)
        return _bind(self._from_texts, pairs, self._pause)

    def _completed(
        self, plan: "Sequence[tuple[str, Callable[[_T], str], str | None]]", arguments: Mapping[str, _T]
    ) -> Mapping[str, _T]:
        """The arguments with the caller's values among them. Raises InvalidArguments where any was sent, or Forbidden.

        NOTE: those are literals already, which is what ``_as_it_is`` makes of them.
        """
        given = cast("Mapping[str, _T]", self._given)
        if sent := [name for name in self._bound if name in arguments]:
            faults = [ArgumentFault(name, "is set by the gateway") for name in sent]
            others = [each for each in plan if each[0] not in self._bound]
            rest = {name: value for name, value in arguments.items() if name not in self._bound}
            try:
                _bind(others, rest, self._pause)
            except InvalidArguments as error:
                faults += error.faults
            raise _all(faults)
        if self._lacking:
            raise Forbidden(f"the caller has no {', '.join(self._lacking)} that fits")
        return {**arguments, **given}


def _bind(
    plan: Sequence[tuple[str, Callable[[_T], str], str | None]], arguments: Mapping[str, _T], pause: Pause
) -> list[str]:
    """PERF: straight through when all is well; whatever is wrong is looked for once more, by itself."""
    literals = []
    given = 0
    for name, convert, default in plan:
        argument = arguments.get(name)
        if argument is None:
            if default is None:
                raise _invalid(plan, arguments, pause)
            literals.append(default)
            continue
        given += 1
        try:
            literals.append(convert(argument))
        except Refused:
            raise _invalid(plan, arguments, pause) from None
    if given != len(arguments):
        raise _invalid(plan, arguments, pause)
    if given > _FEW:
        pause()
    return literals


def _invalid(
    plan: Sequence[tuple[str, Callable[[_T], str], str | None]], arguments: Mapping[str, _T], pause: Pause
) -> InvalidArguments:
    """Every fault, the parameters' in their order first, then the names that belong to none."""
    pause()
    faults = []
    for name, convert, default in plan:
        argument = arguments.get(name)
        if argument is None:
            if default is None:
                faults.append(ArgumentFault(name, "is required"))
            continue
        try:
            convert(argument)
        except Refused as refused:
            faults.append(ArgumentFault(name, str(refused)))
    faults += _unknown(arguments, [name for name, _, _ in plan], pause)
    return _all(faults)


def _all(faults: Sequence[ArgumentFault]) -> InvalidArguments:
    shown = [f"{fault.parameter or ''} {fault.message}".lstrip() for fault in faults[:_MOST_IN_DETAIL]]
    rest = len(faults) - len(shown)
    return InvalidArguments("; ".join(shown) + (f"; and {rest} more" if rest else ""), faults=faults)


def _unknown(names: Iterable[str], known: Iterable[str], pause: Pause) -> list[ArgumentFault]:
    known = dict.fromkeys(known)
    unknown = [name for name in names if name not in known]
    faults = []
    for place, name in enumerate(unknown[:_MOST_UNKNOWN]):
        meant = suggestion(name, known) if place < _MOST_SUGGESTED else ""
        faults.append(ArgumentFault(shortened(name), f"is not a parameter of this query{meant}"))
        pause()
    if len(unknown) > _MOST_UNKNOWN:
        rest = len(unknown) - _MOST_UNKNOWN
        faults.append(ArgumentFault(None, f"{rest} more names are not parameters of this query"))
    return faults


def _json_converter(read: Reader, constraints: Sequence[Check], pause: Pause) -> _FromJSON:
    def convert(raw: msgspec.Raw) -> str:
        try:
            text = read(raw)
        except Refused:
            if json_text.is_null(raw):
                return NULL
            raise
        for check in constraints:
            if len(text) > _LONG:
                pause()
            check(raw, text)
        return literal(text)

    return convert


def _text_converter(type_: Type, convert: _FromJSON, *, checked: bool) -> _FromTexts:
    """``checked``: there are constraints, so nothing may go to the server as it is, unread."""

    def one(texts: Sequence[str]) -> str:
        if not texts:
            return NULL
        if len(texts) != 1:
            raise Refused("must be given once")
        if type_.family is Family.COMPOSITE and not checked:
            return literal(text_forms.checked(texts[0]))
        return convert(msgspec.Raw(text_forms.to_json(texts[0], type_)))

    def many(texts: Sequence[str]) -> str:
        if not texts:
            return NULL
        if len(texts) == 1 and text_forms.is_array_form(texts[0]):
            if checked:
                return convert(msgspec.Raw(text_forms.to_json(texts[0], type_)))
            return literal(text_forms.checked(texts[0]))
        if type_.element is not None and type_.element.family is Family.COMPOSITE and not checked:
            return literal(array_text(map(text_forms.checked, texts), type_.element.delimiter))
        return convert(msgspec.Raw(text_forms.list_to_json(texts, type_)))

    return many if type_.family is Family.ARRAY else one


def _default(parameter: Parameter, convert: _FromJSON) -> str | None:
    if parameter.default is None:
        return None
    try:
        return convert(json_text.value(parameter.default))
    except InvalidJSON as error:
        raise ValueError(f"the default is not JSON: {error.detail}") from None
    except Refused as refused:
        raise ValueError(f"the default {refused}") from None
