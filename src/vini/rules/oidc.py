"""Who vouches for people besides their passwords: an issuer of OpenID Connect, and what is believed of it.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from vini.model import Denied, Value
from vini.rules.errors import Invalid, Unauthenticated

_EMAIL = re.compile(r"[^\s@/?#%\x00-\x1f\x7f]{1,64}@[^\s@/?#%\x00-\x1f\x7f]{1,189}")
_NAME = 254  # characters


class Oidc(Value, frozen=True):
    """The issuer, and as whom the central is known to it."""

    issuer: str  # its URL, as its ID tokens have it: https://login.example.org/realms/lab
    client_id: str
    secret_file: str = ""  # where the client's secret is; "": the issuer wants none
    newcomers: str = ""  # the site where people without an account wait for a PI's approval; "": they are refused


class Vouched(Value, frozen=True):
    """Somebody as the issuer knows him."""

    email: str  # in lower case
    name: str


def check(oidc: Oidc) -> None:
    """Raises Invalid where nobody could log in so."""
    if not is_safe(oidc.issuer):
        raise Invalid(
            f"{oidc.issuer[:200]!r} is no address of an OIDC issuer; it looks like https://login.example.org/realms/lab."
        )
    if not oidc.client_id:
        raise Invalid("An OIDC issuer knows this central by a client id; name it: --oidc-client.")


def is_safe(url: str) -> bool:
    """Whether what is said there can't be read or changed on the way: https, or this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        local = host == "localhost" or _is_loopback(host)
        return url.isprintable() and bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and local))
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def vouched(claims: Mapping[str, Any], oidc: Oidc, nonce: str) -> Vouched:
    """Who that is, of an ID token whose signature, issuer, audience and times are right.

    Raises Unauthenticated where it was not made for this login or this central, Denied where the issuer does not vouch
    for the address.
    """
    if isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1 and claims.get("azp") != oidc.client_id:
        raise Unauthenticated(f"The issuer {oidc.issuer} made its answer for another client than this central.")
    if "nonce" in claims and claims["nonce"] != nonce:
        raise Unauthenticated(f"The issuer {oidc.issuer} made its answer for another login; try again.")
    email = claims.get("email")
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        raise Denied(
            f"The issuer {oidc.issuer} tells no e-mail address of you; let its administrator give this client the "
            "scope `email`, or log in with a password."
        )
    if any(not letter.isascii() and letter.lower() != letter for letter in email):  # the Kelvin sign becomes a k
        raise Denied(
            f"The address {email} has capital letters beyond A to Z, by which it could be taken for another's; have "
            f"the issuer {oidc.issuer} write it in small ones, then log in again."
        )
    if claims.get("email_verified") not in (True, "true"):
        raise Denied(
            f"The issuer {oidc.issuer} has not verified that {email} is your address; have it do so, then log in again."
        )
    name = claims.get("name")
    return Vouched(email.lower(), name[:_NAME] if isinstance(name, str) and name.isprintable() else "")
