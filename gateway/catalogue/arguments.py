"""The arguments of a request to SQL literals: names, types and constraints, every fault at once.

One quoted, untyped literal serves every type inside EXECUTE; a bare number would be converted silently
(``EXECUTE q(1.6)`` on an int4 becomes 2).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from gateway.catalogue import json_text, text_forms
from gateway.catalogue.constraints import Check, checks
from gateway.catalogue.query import Parameter
from gateway.catalogue.types import Family, Type
from gateway.catalogue.values import Pause, Reader, Refused, array_text, no_pause, reader, shortened, suggestion
from gateway.errors import ArgumentFault, InvalidArguments, InvalidJSON

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


class Binder:
    """Binds requests to one query's parameters, whose readers and checks it has composed beforehand.

    Stateless after construction, so any number of requests may use it at a time. ``pause`` is called between parts
    of long work.

    Raises :class:`ValueError`, with a sentence for the query's author, where a default or a constraint does not fit
    the parameter's type.
    """

    def __init__(self, parameters: Sequence[Parameter], types: Sequence[Type], pause: Pause = no_pause) -> None:
        from_json: list[tuple[str, _FromJSON, str | None]] = []
        from_texts: list[tuple[str, _FromTexts, str | None]] = []
        for parameter, type_ in zip(parameters, types, strict=True):
            try:
                constraints = checks(parameter.constraints, type_)
                convert = _json_converter(reader(type_, pause), constraints, pause)
                default = _default(parameter, convert)
            except ValueError as error:
                raise ValueError(f"parameter {parameter.name}: {error}") from None
            from_json.append((parameter.name, convert, default))
            from_texts.append((parameter.name, _text_converter(type_, convert, checked=bool(constraints)), default))
        self._pause = pause
        self._from_json = tuple(from_json)
        self._from_texts = tuple(from_texts)

    def bind_json(self, raw: Mapping[str, msgspec.Raw]) -> list[str]:
        """Literals (or ``NULL``) in the order of ``$1``, ``$2`` …, from JSON texts that ``json_text`` has checked.

        Raises :class:`InvalidArguments` with a fault for every argument that does not fit.
        """
        return _bind(self._from_json, raw, self._pause)

    def bind_text(self, pairs: Mapping[str, Sequence[str]]) -> list[str]:
        """The same from a query string, each name with all its values as text in the type's own PostgreSQL form.

        ``{…}`` given once, or any other number of values, is an array; JSON types take JSON.

        Raises :class:`InvalidArguments` with a fault for every argument that does not fit.
        """
        return _bind(self._from_texts, pairs, self._pause)


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
        if len(texts) != 1:
            raise Refused("must be given once")
        if type_.family is Family.COMPOSITE and not checked:
            return literal(text_forms.checked(texts[0]))
        return convert(msgspec.Raw(text_forms.to_json(texts[0], type_)))

    def many(texts: Sequence[str]) -> str:
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
