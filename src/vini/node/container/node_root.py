"""A root file system made of the node's own, which costs no download and shows nothing of the node's.

Its programs are the node's /usr, read-only.  /etc is made up: what programs need to run, and no secret and no user of
the node's.  All else is empty.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

_COPIED = (
    "bash.bashrc", "bindresvport.blacklist", "debian_version", "ethertypes", "gai.conf", "host.conf",
    "inputrc", "iproute2", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "mime.types", "networks",
    "nsswitch.conf", "os-release", "pam.conf", "pam.d", "profile", "protocols", "rpc", "services", "shells", "terminfo",
)  # fmt: skip
_EMPTY = (
    "dev", "etc/alternatives", "etc/frr", "etc/ssl/certs", "home", "media", "mnt", "opt", "proc", "root",
    "run/bird", "run/frr", "run/lock",
    "srv", "sys", "tmp", "usr", "var/cache", "var/lib/frr", "var/lib/misc", "var/log/frr", "var/spool", "var/tmp",
)  # fmt: skip
_MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, "run/lock": 0o1777}
_PEOPLE = range(1000, 65534)  # whose accounts are the node's business
_BOUND = ("/usr", "/etc/alternatives", "/etc/ssl/certs")


def make(at: Path) -> None:
    """Make it there, complete or not at all."""
    if at.exists():
        return
    new = at.with_name(at.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    for name in _EMPTY:
        (new / name).mkdir(parents=True)
    for name, mode in _MODES.items():
        (new / name).chmod(mode)
    for link in _links():
        (new / link.name).symlink_to(link.readlink())
    _make_etc(new / "etc")
    (new / "var/run").symlink_to("/run")
    new.rename(at)


def binds() -> list[str]:
    """Directories of the node that are seen in it, read-only."""
    return [*(d for d in _BOUND if Path(d).is_dir()), *(str(d) for d in _directories())]


def devices() -> list[str]:
    """What /sys tells of the node's devices: all of them but network interfaces, which are a sliver's own."""
    at = Path("/sys/devices")
    found = [*_names(at, but="virtual"), *_names(at / "virtual", but="net")]
    return sorted(str(p) for p in found)


def _names(at: Path, but: str) -> Iterator[Path]:
    return (p for p in at.iterdir() if p.is_dir() and p.name != but) if at.is_dir() else iter(())


def _links() -> Iterator[Path]:
    """/bin, /lib and the like, where they lead into /usr."""
    return (p for p in Path("/").iterdir() if p.is_symlink() and str(p.readlink()).lstrip("/").startswith("usr/"))


def _directories() -> Iterator[Path]:
    """The same where they are directories of their own."""
    return (p for p in map(Path, ("/bin", "/sbin", "/lib", "/lib64")) if p.is_dir() and not p.is_symlink())


def _make_etc(etc: Path) -> None:
    for name in _COPIED:
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True)
        elif source.exists():
            shutil.copy2(source, etc / name, follow_symlinks=name == "localtime")
    for name in ("passwd", "group"):
        lines = (Path("/etc") / name).read_text().splitlines()
        (etc / name).write_text("".join(f"{line}\n" for line in map(_without_members, lines) if not _is_persons(line)))
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")  # vtysh asks PAM whether root's account has expired
    (etc / "shadow").chmod(0o600)
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    (etc / "frr/vtysh.conf").write_text("service integrated-vtysh-config\n")


def _is_persons(line: str) -> bool:
    number = line.split(":")[2]
    return not number.isdigit() or int(number) in _PEOPLE


def _without_members(line: str) -> str:
    """Of group(5), which ends with them."""
    fields = line.split(":")
    return ":".join([*fields[:3], ""]) if len(fields) == 4 else line
