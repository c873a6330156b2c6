"""Logging in through an OpenID Connect issuer, by the device authorization grant (RFC 8628).

The central is the issuer's client, so no user's machine needs its secret, nor a browser, nor a port that one could be
sent back to: a user types a short code into a browser anywhere.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import httpx
import jwt

from vini.model import Denied, Value, ViniError
from vini.rules import oidc as rules
from vini.rules.errors import IssuerAway, Unauthenticated
from vini.rules.oidc import Oidc, Vouched

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SCOPE = "openid email profile"
_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
# No HMAC: whoever knows the client's secret could sign. And never "none".
_PATIENCE_S, _KEPT_S, _ANEW_S = 10.0, 600.0, 30.0
_LEEWAY_S = 60  # between the issuer's clock and ours
_LONGEST_S = 1800.0  # that a login may take


class Begun(Value, frozen=True):
    """A login that waits for its user, who has to go to `uri` and type `user_code`."""

    device_code: str
    user_code: str
    uri: str
    complete_uri: str  # with the code in it; ""
    expires_s: float
    interval_s: float


class Waiting(Value, frozen=True):
    """The user has not decided yet."""

    slower: bool = False  # the issuer was asked too often


class Issuer:
    """What the central asks of it.  Blocks; may be used in threads."""

    def __init__(self, oidc: Oidc, secret: str = "", patience_s: float = _PATIENCE_S):
        rules.check(oidc)
        self.oidc, self._secret, self._patience_s = oidc, secret, patience_s
        self._lock = threading.Lock()
        self._metadata: tuple[float, dict[str, Any]] = (0.0, {})
        self._keys: tuple[float, jwt.PyJWKSet | None] = (0.0, None)

    def begin(self, nonce: str) -> Begun:
        """Raises IssuerAway, also where it has no such grant."""
        url = self._endpoint("device_authorization_endpoint")
        status, said = self._post(url, {"scope": _SCOPE, "nonce": nonce})
        if status >= 400:
            raise self._strange(f"refuses to let this central begin a login ({_error(said)}): is its client id right?")
        try:
            begun = Begun(
                str(said["device_code"]), _shown(said["user_code"]), _shown(said["verification_uri"]),
                _shown(said.get("verification_uri_complete", "")),
                min(_LONGEST_S, max(1.0, float(said["expires_in"]))),
                min(60.0, max(0.0, float(said.get("interval", 5)))),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as e:
            raise self._strange("does not answer as RFC 8628 has it") from e
        if not begun.uri.startswith(("https://", "http://")):
            raise self._strange("names no web page on which to log in")
        return begun

    def redeem(self, device_code: str, nonce: str) -> Vouched | Waiting:
        """Who has logged in.  Raises IssuerAway, Denied where the user refused or let the code expire, Unauthenticated
        where the issuer's answer can't be believed."""
        form = {"grant_type": _GRANT, "device_code": device_code}
        status, said = self._post(self._endpoint("token_endpoint"), form)
        if status < 400:
            return rules.vouched(self._verified(said.get("id_token")), self.oidc, nonce)
        match said.get("error"):
            case "authorization_pending":
                return Waiting()
            case "slow_down":
                return Waiting(slower=True)
            case "access_denied":
                raise Denied(f"The login was refused at {self.oidc.issuer}.")
            case "expired_token":
                raise Denied("The code has expired; `vini login URL --oidc` gives a new one.")
            case "invalid_grant":
                raise Unauthenticated("This login was used already, or is none; begin a new one: `vini login --oidc`.")
            case _:
                raise self._strange(f"refuses to say who logged in ({_error(said)})")

    # --- ID tokens -------------------------------------------------------------------------------

    def _verified(self, token: object) -> dict[str, Any]:
        """Its claims (OpenID Connect Core 1.0, 3.1.3.7)."""
        try:
            header = jwt.get_unverified_header(token if isinstance(token, str) else "")
            return self._decoded(str(token), header.get("alg"), header.get("kid"))
        except jwt.PyJWTError as e:
            raise Unauthenticated(
                f"What the issuer {self.oidc.issuer} says of you can't be believed ({_why(e)}); try again, and tell "
                "your testbed's administrator if it stays so."
            ) from e

    def _decoded(self, token: str, alg: object, kid: object) -> dict[str, Any]:
        """By the key that it names; where it names none, by whichever of those that sign so fits.  They are asked for
        anew where none does: issuers change their keys."""
        if alg not in _ALGORITHMS:
            raise jwt.InvalidAlgorithmError
        why: jwt.PyJWTError = jwt.InvalidKeyError("it is signed by a key that the issuer does not show")
        for fresh in (False, True):
            for key in self._key_set(fresh).keys:
                if not _signs(key, str(alg)) or kid not in (None, key.key_id):
                    continue
                try:
                    return jwt.decode(
                        token, key.key, algorithms=[str(alg)], audience=self.oidc.client_id,
                        issuer=self.oidc.issuer, leeway=_LEEWAY_S,
                        options={"require": ["exp", "iat", "iss", "aud", "sub"]},
                    )  # fmt: skip
                except (jwt.InvalidSignatureError, jwt.InvalidKeyError) as e:
                    why = e
        raise why

    def _key_set(self, fresh: bool) -> jwt.PyJWKSet:
        with self._lock:
            at, keys = self._keys
            if keys is None or time.monotonic() - at > (_ANEW_S if fresh else _KEPT_S):
                try:
                    keys = jwt.PyJWKSet.from_dict(self._get(self._endpoint("jwks_uri")))
                except jwt.PyJWTError as e:
                    raise self._strange("shows no key with which it could sign") from e
                self._keys = (time.monotonic(), keys)
            return keys

    # --- the issuer's pages ----------------------------------------------------------------------

    def _endpoint(self, name: str) -> str:
        at, found = self._metadata
        if not found or time.monotonic() - at > _KEPT_S:
            found = self._get(urljoin(self.oidc.issuer.rstrip("/") + "/", ".well-known/openid-configuration"))
            if found.get("issuer") != self.oidc.issuer:  # RFC 8414, 3.3
                raise self._strange(f"says that it is {str(found.get('issuer'))[:200]!r}; mend `oidc` in settings.json")
            self._metadata = (time.monotonic(), found)
        url = found.get(name, "")
        if not url and name == "device_authorization_endpoint":
            raise IssuerAway(
                f"The issuer {self.oidc.issuer} has no device authorization grant (RFC 8628), or not for all clients; "
                "its administrator can allow it, or log in with a password."
            )
        if not isinstance(url, str) or not rules.is_safe(url):
            raise self._strange(f"names no safe `{name}`")
        return url

    def _post(self, url: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        methods = self._metadata[1].get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        form, auth = {"client_id": self.oidc.client_id, **form}, None
        if self._secret and "client_secret_basic" in methods:
            auth = (quote(self.oidc.client_id, safe=""), quote(self._secret, safe=""))  # RFC 6749, 2.3.1
        elif self._secret:
            form["client_secret"] = self._secret
        return self._ask("POST", url, data=form, auth=auth)

    def _get(self, url: str) -> dict[str, Any]:
        status, found = self._ask("GET", url)
        if status != 200:
            raise self._strange(f"answers {url} with {status}")
        return found

    def _ask(self, method: str, url: str, **what: Any) -> tuple[int, dict[str, Any]]:
        try:
            answer = httpx.request(
                method, url, timeout=self._patience_s, headers={"Accept": "application/json"}, **what
            )
        except httpx.HTTPError as e:
            why = str(e) or type(e).__name__
            raise IssuerAway(
                f"The issuer {self.oidc.issuer} can't be reached ({why}); try again later, or log in with a password."
            ) from e
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict) or answer.status_code >= 500:
            raise self._strange(f"answers {url} with {answer.status_code}, and not as an issuer does")
        return answer.status_code, found

    def _strange(self, what: str) -> IssuerAway:
        return IssuerAway(f"The issuer {self.oidc.issuer} {what}.")


def read(oidc: Oidc) -> Issuer:
    """With its secret.  Raises ViniError where that can't be read."""
    try:
        secret = Path(oidc.secret_file).read_text(encoding="utf-8").strip() if oidc.secret_file else ""
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no text"
        raise ViniError(
            f"The secret of the OIDC client {oidc.client_id} can't be read from {oidc.secret_file}: {why}; mend "
            "`secret_file` of `oidc` in the central's settings.json."
        ) from e
    return Issuer(oidc, secret)


def _signs(key: jwt.PyJWK, alg: str) -> bool:
    """Whether it is for signatures of that kind (RFC 7517, 4.1 and 4.2); one that says nothing may be."""
    kind = {"R": "RSA", "P": "RSA", "ES": "EC", "Ed": "OKP"}
    return key.public_key_use in (None, "sig") and key.key_type == (kind.get(alg[0]) or kind[alg[:2]])


def _shown(text: object) -> str:
    """What goes to a user's terminal."""
    if not isinstance(text, str) or not text.isprintable() or len(text) > 2000:
        raise ValueError("not for people")
    return text


def _error(said: dict[str, Any]) -> str:
    text = str(said.get("error_description") or said.get("error") or "no reason given")[:200]
    return text if text.isprintable() else "no reason given"


def _why(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired; is this central's clock right?"
        case jwt.InvalidAudienceError():
            return "it was made for another client"
        case jwt.InvalidIssuerError():
            return "it is of another issuer"
        case jwt.InvalidSignatureError():
            return "its signature is wrong"
        case jwt.InvalidAlgorithmError():
            return "it is not signed as ID tokens are"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet; is this central's clock right?"
        case _:
            return str(error) or "it is no ID token"
