"""What a request says that it accepts, and that it has."""

import re

import falcon

_SOME_WEIGHT = re.compile(r"q=(?:1(?:\.0*)?|0\.0*[1-9]\d*)")


def takes_gzip(accepted: str | None) -> bool:
    """Whether an Accept-Encoding header names gzip, and not with a weight of 0 (RFC 9110 section 12.5.3)."""
    for part in (accepted or "").lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not weight or bool(_SOME_WEIGHT.fullmatch(weight.strip()))
    return False


def has_already(request: falcon.Request, response: falcon.Response, tag: str) -> bool:
    """Give the answer its ETag; whether the caller has it by ``If-None-Match``, which the answer then says (304)."""
    response.etag = tag
    has = any(given in ("*", tag) for given in request.if_none_match or ())
    if has:
        response.status = falcon.HTTP_304
    return has
