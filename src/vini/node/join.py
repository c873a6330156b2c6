"""How a machine becomes a node, its own side: whom it talks to is known before it believes anything."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from vini.bus.joining import JoinAsked, Joined, Token, parse_token
from vini.model import Conflict, Denied, NotFound, ViniError
from vini.names import SLIVER_NAME
from vini.node.identity import Identity, public_half
from vini.node.reached import trusting, unreachable

_PATIENCE_S = 20.0
_LARGEST = 1 << 20
_ERRORS: dict[str, type[ViniError]] = {"Denied": Denied, "NotFound": NotFound, "Conflict": Conflict}


async def join(
    url: str,
    token: str,
    name: str,
    key: bytes,
    said: Callable[[JoinAsked], JoinAsked] = lambda asked: asked,
) -> Identity:
    """Who this machine is from now on; the caller writes it down.  `said` adds what the machine says of itself.

    With the `key` of an attempt whose answer was lost (`attempt.key_for`), it may be asked again.

    Raises ViniError with a next step; Denied where the token is not good, Conflict where the name is taken.
    """
    address = _address(url)
    given = parse_token(token)
    _checked_name(name)
    asked = said(JoinAsked(given.secret, name, public_half(key)))
    ca, joined = await asyncio.to_thread(_join, address, given, asked)
    return Identity(joined.node, joined.site, _plain(address), key, ca)


async def follow(url: str, identity: Identity) -> Identity:
    """The same node of the same central, which is at this URL now.  Raises ViniError where it is not, or not yet."""
    address = _address(url)
    return replace(identity, central=await asyncio.to_thread(_found, address, identity.ca))


def _found(address: tuple[str, int], ca: str) -> str:
    central = _plain(address)
    try:
        status, _ = _talk(address, trusting(ca), "GET", "/v1/ca")
    except (OSError, http.client.HTTPException) as e:
        raise ViniError(f"{central} can't be followed: {unreachable(e)}") from e
    if status != 200:
        raise ViniError(f"{central} answers, but is no VINI central; check the address and the port.")
    return central


def _join(address: tuple[str, int], token: Token, asked: JoinAsked) -> tuple[str, Joined]:
    central = _plain(address)
    try:
        ca = _authority(address, token)
        status, body = _talk(address, trusting(ca), "POST", "/v1/join", msgspec.json.encode(asked))
    except (OSError, http.client.HTTPException) as e:
        raise ViniError(f"{central} can't be joined: {unreachable(e)}") from e
    if status != 200:
        raise _error(central, status, body)
    try:
        return ca, msgspec.json.decode(body, type=Joined)
    except msgspec.DecodeError as e:
        raise ViniError(f"{central} answers, but not as a VINI central does; check the address.") from e


def _authority(address: tuple[str, int], token: Token) -> str:
    """Asked of whoever answers there, and believed only where it is the one that the token tells of."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    status, body = _talk(address, anybody, "GET", "/v1/ca")
    try:
        ca = body.decode("ascii")
        fingerprint = sha256(ssl.PEM_cert_to_DER_cert(ca)).hexdigest()
    except (UnicodeDecodeError, ValueError) as e:
        raise ViniError(f"{_plain(address)} answers, but is no VINI central; check the address and the port.") from e
    if status != 200:
        raise ViniError(f"{_plain(address)} answers, but is no VINI central; check the address and the port.")
    if fingerprint != token.fingerprint:
        raise Denied(
            f"{_plain(address)} is not the central that made this token (its authority is {fingerprint[:16]}..., "
            f"the token's {token.fingerprint[:16]}...); check the address, or make a token there: `vini node token`."
        )
    return ca


def _talk(
    address: tuple[str, int], context: ssl.SSLContext, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(*address, timeout=_PATIENCE_S, context=context)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(_LARGEST)
    finally:
        connection.close()


def _error(central: str, status: int, body: bytes) -> ViniError:
    try:
        said = msgspec.json.decode(body, type=dict[str, object])
        return _ERRORS.get(str(said["error"]), ViniError)(str(said["sentence"]))
    except (msgspec.DecodeError, KeyError):
        return ViniError(f"{central} can't take a node at the moment (HTTP status {status}); its log says why.")


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme != "https" or parts.path not in ("", "/"):
        raise ViniError(f"{url!r} is no address of a central; it looks like https://central.example or with :PORT.")
    return host, port


def _plain(address: tuple[str, int]) -> str:
    host, port = address
    return f"https://{f'[{host}]' if ':' in host else host}" + (f":{port}" if port != 443 else "")


def _checked_name(name: str) -> None:
    if not SLIVER_NAME.fullmatch(name) or name == "local":
        raise ViniError(f"{name!r} can't be a node's name: use a-z, 0-9 and -, at most 40, and not `local`.")
