"""The keys of this machine's user: those by which he logs in elsewhere already, and one of VINI's own."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vini.model import ViniError

_KEY = re.compile(r"(?:^|\s)((?:ssh-|ecdsa-sha2-|sk-)\S+ [A-Za-z0-9+/]{40,}={0,3})(?:\s|$)")


def of_user(own: str) -> list[str]:
    """Of public keys and authorized_keys files of the user, and of who called sudo, each once; `own` among them."""
    texts = [own, *_texts()]
    lines = (line for text in texts for line in text.splitlines() if not line.lstrip().startswith("#"))
    return list(dict.fromkeys(found[1] for line in lines if (found := _KEY.search(line))))


def _texts() -> Iterator[str]:
    for home in _homes():
        directory = home / ".ssh"
        for path in [*sorted(directory.glob("*.pub")), directory / "authorized_keys"]:
            try:
                yield path.read_text(errors="replace")
            except OSError:
                continue


def _homes() -> list[Path]:
    homes = [Path.home()]
    if user := os.environ.get("SUDO_USER"):
        with suppress(KeyError):
            homes.append(Path(pwd.getpwnam(user).pw_dir))
    return homes


def own(directory: Path) -> Path:
    """The private half of VINI's own pair in that directory, beside it the public one; made when first needed."""
    path = directory / "id_ed25519"
    if path.exists() and path.with_suffix(".pub").exists():
        return path
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    pair = Ed25519PrivateKey.generate()
    public = pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path.with_suffix(".pub"), public + b" vini\n", 0o644)
        _write(path, pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600)
    except OSError as e:
        raise ViniError(f"A key can't be written to {directory}: {e.strerror}; check the disk.") from e
    return path


def _write(path: Path, text: bytes, mode: int) -> None:
    new = path.with_name(path.name + ".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as f:
        f.write(text)
    new.rename(path)
