"""Arguments of many steps at once: every fault of every step is told before anything runs."""

from collections.abc import Callable, Sequence

import msgspec

from gateway.catalogue.arguments import Binder
from gateway.catalogue.json_text import members
from gateway.errors import ArgumentFault, InvalidArguments
from gateway.postgres.single import Result

MOST_FAULTS = 200
"""Faults that are told one by one."""
_MOST_IN_DETAIL = 3


def of_step(faults: Sequence[ArgumentFault], step: int) -> list[ArgumentFault]:
    """The same faults, with the step they are in."""
    return [msgspec.structs.replace(fault, step=step) for fault in faults]


def refused(faults: Sequence[ArgumentFault]) -> InvalidArguments:
    """One refusal for all of them."""
    told = [f"step {fault.step}: {fault.parameter or ''} {fault.message}" for fault in faults[:_MOST_IN_DETAIL]]
    rest = len(faults) - len(told)
    detail = "; ".join(" ".join(sentence.split()) for sentence in told) + (f"; and {rest} more" if rest else "")
    shown = list(faults[:MOST_FAULTS])
    if len(faults) > MOST_FAULTS:
        shown.append(ArgumentFault(None, f"{len(faults) - MOST_FAULTS} more faults are not told"))
    return InvalidArguments(detail, faults=shown, step=faults[0].step)


def bind_all(binder: Binder, elements: Sequence[msgspec.Raw]) -> list[list[str]]:
    """Literals for each element of a list, an object of arguments; raises InvalidArguments with all faults of all."""
    bound: list[list[str]] = []
    faults: list[ArgumentFault] = []
    for step, element in enumerate(elements):
        arguments = members(element)
        if arguments is None:
            faults.append(ArgumentFault(None, "must be a JSON object", step))
            continue
        try:
            bound.append(binder.bind_json(arguments))
        except InvalidArguments as error:
            faults += of_step(error.faults, step)
    if faults:
        raise refused(faults)
    return bound


def constant(literals: Sequence[str]) -> Callable[[Sequence[Result]], Sequence[str]]:
    """What a step binds that needs no earlier result."""
    return lambda _: literals
