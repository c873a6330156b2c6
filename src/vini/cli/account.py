"""Who one is at a testbed's central: login, logout, and the client that commands about a testbed use."""

from __future__ import annotations

import os
import ssl
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from vini.cli.out import called, line, note
from vini.client import login as logins
from vini.client.login import Login
from vini.model import Denied, ViniError

if TYPE_CHECKING:
    from vini.client.remote import RemoteClient

_LONGEST_S = 1800.0  # that a login through an issuer may take


def remote() -> RemoteClient:
    """The central that this user has logged in to.  Raises Denied where there is none."""
    login = logins.current()
    if login is None and (other := logins.of_caller()):
        raise Denied(f"{other.email} is logged in to {other.url}, but with sudo you are root; leave sudo out.")
    if login is None:
        raise Denied(
            "This is about a testbed, and nobody is logged in to one; `vini login URL`, e.g. https://central:8443."
        )
    return _client(login)


def warn_of_sudo() -> None:
    """A command that could be about a testbed is about this machine, since root has not logged in."""
    if other := logins.of_caller():
        note(
            f"note: with sudo this is about this machine; without, about the testbed {other.url}, where {other.email} "
            "is logged in."
        )


def _client(login: Login) -> RemoteClient:
    from vini.client.remote import RemoteClient  # only those who need the network pay for its libraries

    return RemoteClient(login)


def authority_of(login: Login) -> str:
    """The fingerprint of the central's own authority, of which join tokens tell."""
    from vini.central.ca import fingerprint

    return fingerprint(login.ca or _offered(login.url))


@click.command("login", short_help="Log in to a testbed's central; commands then go there.")
@click.argument("url", required=False)
@click.option("--email", help="Your account; asked for where it is not given.")
@click.option("--fingerprint", default="", help="Of the central's authority, as its administrator tells it.")
@click.option("--token", default="", help="An API token, instead of a password.")
@click.option("--oidc", is_flag=True, help="Through the testbed's OpenID Connect issuer, in any browser.")
def login_command(url: str | None, email: str | None, fingerprint: str, token: str, oidc: bool) -> None:
    """Log in to the central at URL.  From then on `vini up`, `status`, `exec` ... are about that testbed.

    The password is asked for, or read from VINI_PASSWORD.  `vini logout` brings commands back to this machine.
    Without URL it is the central of before, and you are who you were: when a login has expired.

    \b
    vini login https://central.example:8443 --email ada@example.org
    vini login
    vini login https://central.example:8443 --oidc     shows a page and a code, and waits
    """
    if oidc and (email or token):
        raise click.UsageError("With --oidc the issuer tells who you are: give neither --email nor --token.")
    from vini.rules.nouns import Person
    from vini.rules.wishes import Secret

    before = logins.current()
    if url is None:
        if before is None:
            raise click.UsageError("Which central? `vini login https://central.example:8443`.")
        url, email = before.url, email or before.email
    url = _checked(url)
    known = before if before and before.url == url else None
    ca = known.ca if known and not fingerprint else _believed(url, fingerprint)
    if oidc:
        token = _confirmed(_client(Login(url, "", "", ca)))
    if not token:
        email = email or str(click.prompt("E-mail", default=known.email if known else None, err=True))
        password = os.environ.get("VINI_PASSWORD") or asked_for_password(f"Password of {email}")
        stranger = _client(Login(url, "", "", ca))
        token = stranger.call("POST", "/sessions", Secret, {"email": email, "password": password}).secret
    me = _client(Login(url, "", token, ca)).call("GET", "/me", Person)
    logins.keep(Login(url, me.email, token, ca))
    line(f"You are {me.email} at {url}; commands go there until `{called('vini logout')}`.")


def asked_for_password(of: str = "Password") -> str:
    """Of a person, or the line that another program writes to us."""
    if sys.stdin.isatty():
        return str(click.prompt(of, hide_input=True, err=True))
    if given := sys.stdin.readline().rstrip("\r\n"):
        return given
    raise click.UsageError(
        "Nobody is here to be asked for the password; give VINI_PASSWORD, or write it to this command."
    )


def _confirmed(stranger: RemoteClient) -> str:
    """The token of a session, when the user has confirmed in a browser that it is he."""
    from vini.rules.wishes import BegunLogin, Secret

    begun = stranger.call("POST", "/oidc/logins", BegunLogin)
    click.echo(f"Open {begun.page} in any browser, and type the code {begun.user_code}", err=True)
    if begun.page_with_code:
        click.echo(f"(or open {begun.page_with_code})", err=True)
    until = time.monotonic() + _LONGEST_S
    while True:
        time.sleep(begun.every_s)
        try:
            if secret := stranger.call("POST", "/oidc/sessions", Secret, {"login": begun.login}).secret:
                return secret
        except Denied:  # also where it has expired, or is none any more
            raise
        except ViniError as e:  # the central, or the issuer, is away for a while: the code is good all the same
            if time.monotonic() > until:
                raise
            note(f"note: {e}")


@click.command("logout")
def logout_command() -> None:
    """Log out: commands are about this machine again."""
    login = logins.current()
    if login is not None:
        try:
            _client(login).call("DELETE", "/sessions/current", type(None))
        except ViniError as e:
            note(f"note: the central could not be told: {str(e).partition('. ')[0]}. There it ends in twelve hours.")
    line("Logged out; commands are about this machine." if logins.forget() else "Nobody was logged in.")


def _checked(url: str) -> str:
    parts = urlsplit(url if "//" in url else f"https://{url}")
    try:
        good = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number
        good = False
    if not good:
        raise ViniError(f"{url!r} is no address of a central; it looks like https://central.example:8443.")
    return f"https://{parts.netloc}"


def _believed(url: str, fingerprint: str) -> str:
    """The authority that the central shows, where it is the one that was told, or that somebody confirms.

    "" where this machine's own authorities vouch for the central.
    """
    from vini.central.ca import fingerprint as of

    if not fingerprint and _is_vouched_for(url):
        return ""
    ca = _offered(url)
    if not fingerprint:
        if not sys.stdin.isatty():
            raise Denied(
                f"Nobody vouches for {url}; its authority has the fingerprint {of(ca)}. "
                "If its administrator says so too: --fingerprint."
            )
        click.confirm(f"The central's authority has the fingerprint {of(ca)}. Do you trust it?", abort=True, err=True)
    elif of(ca) != fingerprint.lower():
        raise Denied(f"The authority of {url} has the fingerprint {of(ca)}, not the one given; is that the central?")
    return ca


def _is_vouched_for(url: str) -> bool:
    import httpx

    try:
        httpx.get(f"{url}/v1/ca", timeout=10)
    except httpx.HTTPError as e:
        if isinstance(e.__cause__, ssl.SSLError) or "CERTIFICATE" in str(e):
            return False
        from vini.client.remote import unreachable

        raise unreachable(url, e, logged_in=False) from e
    return True


def _offered(url: str) -> str:
    """The authority that whoever answers there shows; not to be believed yet."""
    import httpx

    from vini.client.remote import unreachable

    try:
        answer = httpx.get(f"{url}/v1/ca", verify=False, timeout=10)
    except httpx.HTTPError as e:
        raise unreachable(url, e, logged_in=False) from e
    if "BEGIN CERTIFICATE" not in answer.text:
        raise ViniError(f"{url} answers, but is no VINI central; check the address and the port.")
    return answer.text
