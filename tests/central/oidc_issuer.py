"""A small OpenID Connect issuer on loopback: discovery, keys, device authorization and tokens (RFC 8628), over HTTP."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "vini", "s3cr:t/%"
_ALGORITHM = jwt.algorithms.RSAAlgorithm


class FakeIssuer:
    """What it says can be set by a test, rightly or wrongly."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid, self.url = "1", ""
        self._shown: tuple[rsa.RSAPrivateKey, str] | None = None  # where it shows another one than it signs with
        self.claims: dict[str, Any] = {}  # in place of what is right; None: without
        self.metadata: dict[str, Any] = {}
        self.at_once = ""
        self.more_keys: list[dict[str, Any]] = []  # that it shows before its own
        self.named: str | None = ""  # the key that tokens name, where not the right one; None: none
        self.answer: str | None = None  # an error in place of tokens
        self.alg = "RS256"
        self.interval = 0
        self.pending: dict[str, str] = {}  # device code -> nonce, of those that wait for their user
        self.confirmed: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, str], str]] = []  # path, form, Authorization

    def confirm(self, email: str, verified: bool = True) -> None:
        """The user does so, in all logins that wait."""
        who = {"sub": email, "email": email, "email_verified": verified, "name": "Ada"}
        self.confirmed |= {code: {**who, "nonce": nonce} for code, nonce in self.pending.items()}
        self.pending = {}

    def confirm_all(self, email: str) -> None:
        """The user does so at once, from now on."""
        self.at_once = email

    def token(self, who: dict[str, Any]) -> str:
        """Signed as is set, of these claims and those that are set."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, **who, **self.claims}
        claims = {k: v for k, v in claims.items() if v is not None}
        if self.alg == "HS256":  # as an attacker makes it, with the issuer's public key; PyJWT would not help him
            return _hmac_signed(claims, self._public_pem(), self.kid)
        kid = self.kid if self.named == "" else self.named
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(claims, None if self.alg == "none" else self.key, self.alg, headers=headers)

    def _public_pem(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def keys(self) -> dict[str, Any]:
        key, kid = self._shown or (self.key, self.kid)
        return {
            "keys": [*self.more_keys, {**json.loads(_ALGORITHM.to_jwk(key.public_key())), "kid": kid, "use": "sig"}]
        }

    def steal(self) -> None:
        """From now on somebody else's key signs; the old one is shown."""
        self._shown = (self.key, self.kid)
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def roll(self) -> None:
        """From now on another key signs, and is shown."""
        self.key, self.kid = rsa.generate_private_key(public_exponent=65537, key_size=2048), self.kid + "1"

    # --- what it answers --------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        if path == "/keys":
            return 200, self.keys()
        if path != "/.well-known/openid-configuration":
            return 404, {}
        at = {"jwks_uri": "keys", "device_authorization_endpoint": "device", "token_endpoint": "token"}
        return 200, {"issuer": self.url, **{k: f"{self.url}/{v}" for k, v in at.items()}, **self.metadata}

    def post(self, path: str, form: dict[str, str], auth: str) -> tuple[int, dict[str, Any]]:
        self.asked.append((path, form, auth))
        good = auth == "Basic " + base64.b64encode(b"vini:s3cr%3At%2F%25").decode()
        if form.get("client_id") != CLIENT or not good:
            return 401, {"error": "invalid_client"}
        if path == "/device":
            code = f"device-{len(self.asked)}"
            self.pending[code] = form["nonce"]
            if self.at_once:
                self.confirm(self.at_once)
            return 200, {
                "device_code": code, "user_code": "WDJB-MJHT", "verification_uri": f"{self.url}/go",
                "expires_in": 600, "interval": self.interval,
            }  # fmt: skip
        code = form["device_code"]
        if self.answer:
            return 400, {"error": self.answer}
        if code in self.pending:
            return 400, {"error": "authorization_pending"}
        if code not in self.confirmed:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": self.token(self.confirmed.pop(code))}


def _hmac_signed(claims: dict[str, Any], key: bytes, kid: str) -> str:
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    head = json.dumps({"alg": "HS256", "kid": kid, "typ": "JWT"}).encode()
    body = f"{part(head)}.{part(json.dumps(claims).encode())}"
    return f"{body}.{part(hmac.new(key, body.encode(), hashlib.sha256).digest())}"


@contextmanager
def issuer() -> Iterator[FakeIssuer]:
    """One that answers."""
    made = FakeIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*made.get(self.path))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            auth = self.headers.get("Authorization", "")
            self._say(*made.post(self.path, {k: v[0] for k, v in form.items()}, auth))

        def _say(self, status: int, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
