"""An identity provider: it signs tokens and publishes its keys, or behaves badly."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER, AUDIENCE = "https://issuer.example/", "shop"


class SigningKey:
    """A private key with its id, and its public half as a JWK."""

    def __init__(self, kid: str | None, algorithm: str = "ES256", *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any
        match algorithm[:2]:
            case "RS" | "PS":
                self.private = rsa.generate_private_key(65537, bits)
            case "ES":
                self.private = ec.generate_private_key(ec.SECP256R1())
            case _:
                self.private = ed25519.Ed25519PrivateKey.generate()

    def jwk(self, **more: Any) -> dict[str, Any]:
        made = get_default_algorithms()[self.algorithm]
        public: dict[str, Any] = json.loads(made.to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        return {**public, **({} if self.kid is None else {"kid": self.kid}), **more}

    def sign(self, /, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token of ``sub`` ann for five minutes; claims that are None are left out."""
        now = int(time.time())
        payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, **claims}
        named = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode(
            {name: value for name, value in payload.items() if value is not None},
            self.private,
            self.algorithm,
            headers={**named, **(headers or {})},
        )


def key_set(*keys: SigningKey) -> bytes:
    return json.dumps({"keys": [key.jwk() for key in keys]}).encode()


class Issuer:
    """Serves ``content`` with ``status`` after ``delay`` seconds, and counts how often it was asked."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content
        self.status = 200
        self.delay = 0.0
        self.dribbles = False
        self.asked = 0
        self._released = threading.Event()

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[str]:
        """The address of its keys."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer._released.wait(issuer.delay)
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(issuer.content)))
                self.end_headers()
                for byte in issuer.content if issuer.dribbles else ():
                    self.wfile.write(bytes([byte]))
                    if issuer._released.wait(0.1):
                        return
                self.wfile.write(issuer.content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that did not wait."""

        server = Server(("127.0.0.1", port), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/keys"
        finally:
            self._released.set()
            server.shutdown()
            server.server_close()
            thread.join()
            self._released.clear()
