"""Which central this user talks to: what `vini login` keeps, in a file that only he can read."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import msgspec

from vini.model import Value, ViniError


class Login(Value, frozen=True):
    """A central, and who we are there."""

    url: str  # "https://central.example:8443"
    email: str
    token: str  # an API token
    ca: str = ""  # the certificate authority that we trust for it, PEM; "": those that this machine trusts


def path() -> Path:
    """VINI_LOGIN, else below XDG_CONFIG_HOME (XDG Base Directory Specification)."""
    if given := os.environ.get("VINI_LOGIN"):
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "vini" / "login.json"


def current() -> Login | None:
    """Where commands go; None: to this machine's own agent."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Login)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return None  # another user's: with `sudo -E` his, who is somebody else here
    except (msgspec.DecodeError, OSError) as e:
        raise ViniError(f"The login {path()} can't be read ({e}); `vini logout` removes it.") from e


def of_caller() -> Login | None:
    """With sudo: the login of the user who called it, where root, whose commands these are, has none."""
    user = os.environ.get("SUDO_USER", "")
    if not user or os.environ.get("VINI_LOGIN"):
        return None
    try:
        home = Path(pwd.getpwnam(user).pw_dir)
        found = msgspec.json.decode((home / ".config" / "vini" / "login.json").read_bytes(), type=Login)
    except (KeyError, OSError, msgspec.DecodeError):
        return None
    return None if path().exists() else found


def keep(login: Login) -> None:
    """Store it; at no moment can others read it."""
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(msgspec.json.encode(login))
    new.rename(file)


def forget() -> bool:
    """Log out; whether there was a login."""
    try:
        path().unlink()
    except FileNotFoundError:
        return False
    return True
