"""What ``openapi.yaml`` says of an answer: every response that a test sees is held against it."""

import json
import re
from functools import cache, cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

FILE = Path(__file__).parents[2] / "openapi.yaml"
_HERE = "urn:openapi"
_SAME = {"HEAD": "get", "QUERY": "post"}
"""Methods that OpenAPI 3.1 has no operations of, or that need none."""
_LONGEST_INTEGER = 4000
"""Digits; Python refuses to read more than 4300."""


class Description:
    """The parsed file: paths, problem codes, and a judgement on any answer."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._registry: Registry[Any] = Registry().with_resource(
            _HERE, Resource.from_contents(document, default_specification=DRAFT202012)
        )
        self._paths = [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), path) for path in self.paths]

    @classmethod
    @cache
    def load(cls) -> Self:
        """Read the repository's file, once."""
        return cls(yaml.safe_load(FILE.read_text()))

    @property
    def paths(self) -> dict[str, dict[str, Any]]:
        """Path templates with their operations."""
        paths: dict[str, dict[str, Any]] = self.document["paths"]
        return paths

    @cached_property
    def codes(self) -> frozenset[str]:
        """The codes a problem may have."""
        return frozenset(self.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])

    def methods(self, path: str) -> set[str]:
        """The methods of a path template, in capitals."""
        return {name.upper() for name in self.paths[path] if name in {"get", "post", "put", "delete", "patch"}}

    def judge(self, response: httpx.Response) -> None:
        """Assert that the answer is one the file promises: status, media type, headers, body."""
        request = response.request
        if request.method == "OPTIONS":
            assert response.headers["Allow"]
            return
        answer = self._answer(request.method, request.url.path, response.status_code)
        assert response.headers["X-Request-Id"]
        is_streamed = response.headers.get("Transfer-Encoding") == "chunked" or request.method == "HEAD"
        is_empty = response.status_code in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        if "Content-Encoding" not in response.headers and not is_streamed and not is_empty:
            assert response.headers["Content-Length"] == str(len(response.content))
        self._judge_headers(answer, response)
        if "content" not in answer or request.method == "HEAD":
            assert not response.content
            return
        media = response.headers["Content-Type"]
        if media not in answer["content"]:
            media = next(each for each in (media.partition(";")[0], "*/*") if each in answer["content"])
        if media == "application/x-ndjson" or not media.endswith("json"):
            body = response.text if media.startswith("text/") else ""
        else:
            body = parse(response.content)
        self.validator(answer["content"][media]["schema"]).validate(body)

    def validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        """A validator of a schema of the file, whose references are followed."""
        return Draft202012Validator(_absolute(schema), registry=self._registry, format_checker=FormatChecker())

    def _answer(self, method: str, path: str, status: int) -> dict[str, Any]:
        for pattern, template in self._paths:
            if pattern.fullmatch(path):
                operation = self.paths[template].get(_SAME.get(method, method.lower()))
                if operation is None:  # a method that is not for this path
                    refused = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NO_CONTENT, HTTPStatus.BAD_REQUEST}
                    # Elsewhere than on the listener for operators there is nothing, whatever the method.
                    assert status in refused or (path.startswith("/admin/") and status == HTTPStatus.NOT_FOUND)
                    return self._resolved({"$ref": "#/components/responses/Problem"})
                answers = operation["responses"]
                assert str(status) in answers, f"{method} {template} does not promise {status}"
                return self._resolved(answers[str(status)])
        assert status == HTTPStatus.NOT_FOUND
        return self._resolved({"$ref": "#/components/responses/Problem"})

    def _judge_headers(self, answer: dict[str, Any], response: httpx.Response) -> None:
        for name, header in answer.get("headers", {}).items():
            described = self._resolved(header)
            if name not in response.headers and described.get("required") is False:
                continue
            assert name in response.headers
            self.validator(described["schema"]).validate(response.headers[name])

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            found: Any = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node


def parse(body: bytes) -> Any:
    """JSON with integers too long for Python as infinity: what counts here is that it is a number."""
    return json.loads(body, parse_int=lambda text: int(text) if len(text) < _LONGEST_INTEGER else float("inf"))


def _absolute(node: Any) -> Any:
    """The schema with its references into the file made to name the file."""
    if isinstance(node, dict):
        return {key: f"{_HERE}{value}" if key == "$ref" else _absolute(value) for key, value in node.items()}
    return [_absolute(item) for item in node] if isinstance(node, list) else node
