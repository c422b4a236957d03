"""What a request says that it accepts, and that it has."""

import re
from collections.abc import Iterable

import falcon

_LONGEST = 1024
"""Characters of an Accept-Encoding header that is looked at."""
_WEIGHT = re.compile(r"\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*")


def coding(accepted: str | None, offered: Iterable[str]) -> str | None:
    """Return which of these codings an Accept-Encoding header takes most gladly (RFC 9110 section 12.5.3).

    Of two that are taken as gladly the first. One with a weight that cannot be read is not taken.
    """
    if not accepted or len(accepted) > _LONGEST:
        return None
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, semicolon, parameters = part.partition(";")
        weight = _WEIGHT.fullmatch(parameters)
        weights[name.strip().removeprefix("x-")] = float(weight[1]) if weight else 0.0 if semicolon else 1.0
    others = weights.get("*", 0.0)
    best = max(offered, key=lambda name: weights.get(name, others))
    return best if weights.get(best, others) > 0 else None


def takes_gzip(accepted: str | None) -> bool:
    """Whether an Accept-Encoding header takes gzip."""
    return coding(accepted, ["gzip"]) is not None


def has_already(request: falcon.Request, response: falcon.Response, tag: str) -> bool:
    """Give the answer its ETag; whether the caller has it by ``If-None-Match``, which the answer then says (304)."""
    response.etag = tag
    has = any(given in ("*", tag) for given in request.if_none_match or ())
    if has:
        response.status = falcon.HTTP_304
    return has
