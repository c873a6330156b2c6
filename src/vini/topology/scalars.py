"""What is written in one word or line of a topology file: how it is read, and its JSON Schema."""

from __future__ import annotations

import re
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from vini import daemons, names
from vini.initscript import is_name
from vini.model import DAEMONS, PROTOCOLS
from vini.text import objects, units
from vini.text.mistakes import Wrong, quote
from vini.text.schema import Json, Text, words

NO_ROUTING = "none"
NOTHING = "none"  # takes back what a link would inherit
DISTRIBUTIONS = ("normal", "uniform", "pareto")
LINE = r"^\S+\s+--\s+\S+$"
RESERVED_VIFS = ("lo", "all", "default")  # the loopback; and /proc/sys/net has directories of these names
CLOSED_DIRECTORIES = ("proc", "sys", "dev")  # the kernel's own, in every sliver

_NAME_RULE = "use a-z, 0-9 and '-' inside, at most 40 characters"


MEMORY = Text(units.read_memory_mb, {"type": "string", "pattern": units.MEMORY})
DISK_RATE = Text(units.read_disk_mb, {"type": "string", "pattern": units.DISK_RATE})


def _pattern(regex: re.Pattern[str] | str) -> str:
    text = regex if isinstance(regex, str) else regex.pattern
    return "^" + text.removesuffix(r"\Z").removeprefix("^").removesuffix("$") + "$"


def _matching(regex: re.Pattern[str], what: str, rule: str, keep: bool = False) -> Text:
    def read(text: str) -> str:
        if not regex.match(text):
            raise Wrong(f"{quote(text)} can't be {what}.", _suggest(regex, text, rule))
        return text

    return Text(read, {"type": ["string", "integer"], "pattern": _pattern(regex)}, keep)


def _suggest(regex: re.Pattern[str], text: str, rule: str) -> str:
    slug = names.slug(text)
    return f"{rule}; for example '{slug}'" if slug and regex.match(slug) else rule


def _text(read: Any, pattern: str, keep: bool = False) -> Text:
    return Text(read, {"type": "string", "pattern": pattern}, keep)


def _read_address(text: str) -> str:
    """An interface address with prefix length, canonical."""
    if "/" not in text or "%" in text:
        raise Wrong(f"{quote(text)} is not an address with prefix length.", "write it like 10.0.0.1/31 or fd00::1/127")
    try:
        address = names.canonical(text)
    except ValueError as e:
        raise Wrong(f"{quote(text)} is not an address with prefix length.", "is a part of it too large?") from e
    _check_unicast(address.split("/")[0])
    network = ip_network(address, strict=False)
    if network.version == 4 and network.prefixlen < 31:
        own = {str(network[0]): "the network's own", str(network[-1]): "the broadcast"}
        if role := own.get(address.split("/")[0]):
            raise Wrong(f"The address {address} is {role} address.", f"take one between: {network[1]}..{network[-2]}")
    return address


def _check_unicast(text: str) -> None:
    address = ip_address(text)
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise Wrong(f"The address {text} can't be an interface's.", "take a unicast address")
    if isinstance(address, IPv6Address) and address.is_link_local:
        raise Wrong(f"The address {text} is link-local.", "each vif has one by itself; take one of fd00::/8")


def _read_loopback(text: str) -> str:
    """A sliver's own address, canonical, as /32 or /128."""
    address = _read_address(text if "/" in text else text + ("/128" if ":" in text else "/32"))
    plain, length = address.split("/")
    if length != ("128" if ":" in plain else "32"):
        raise Wrong(f"A sliver's own address has no subnet, but {quote(text)} has one.", f"write {plain}")
    return address


def _read_gateway(text: str) -> str:
    """An address without prefix length, canonical; or a sliver's name."""
    try:
        address = str(ip_address(text))
    except ValueError as e:
        if names.SLIVER_NAME.match(text):
            return text
        raise Wrong(f"{quote(text)} is neither an address nor a sliver.", "name a neighbouring sliver") from e
    if "%" in address:
        raise Wrong(f"{quote(text)} has a zone.", "name the neighbouring sliver instead")
    _check_unicast(address)
    return address


def _read_prefix(text: str) -> str:
    """A network, canonical; an address alone is a network of one."""
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        network = str(ip_network(text, strict=False))
    except ValueError as e:
        raise Wrong(f"{quote(text)} is not a prefix.", "write it like 10.0.0.0/8 or fd00::/8") from e
    raise Wrong(f"{quote(text)} has bits set behind its prefix length.", f"did you mean {network}?")


def _read_destination(text: str) -> str:
    return text if text == "default" else _read_prefix(text)


def _read_area(text: str) -> str:
    """An OSPF area as dotted quad (RFC 2328, C.2)."""
    try:
        return str(IPv4Address(int(text) if re.fullmatch(r"[0-9]{1,10}", text) else text))
    except ValueError as e:
        raise Wrong(f"{quote(text)} is not an OSPF area.", "write a number such as 0, or 0.0.0.0") from e


def _read_volume_path(text: str) -> str:
    """A directory inside; one in the root is right, too."""
    _read_path(text if text.count("/") != 1 else f"{text}/_")
    return text


_REGISTRY = r"docker://[\w.-]+(:[0-9]+)?(/[\w.-]+)+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?"  # as skopeo(1) writes it
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
_IMAGE_NAME = r"[a-z0-9][a-z0-9._-]{0,79}"


def _read_image(text: str) -> str:
    """A path of the node's, an image of a registry, or a name in the node's store."""
    if text.startswith("/"):
        return _read_path(text)
    if not re.fullmatch(_REGISTRY, text) and not re.fullmatch(_IMAGE_NAME, text):
        raise Wrong(
            f"{quote(text)} is no image.",
            "write a path like /srv/image.tar.zst, a name of `vini image list`, or docker://docker.io/library/debian:12",
        )
    return text


def _read_path(text: str) -> str:
    parts = text.split("/")[1:]
    if not text.startswith("/"):
        raise Wrong(f"The path {quote(text)} is relative.", f"did you mean {quote('/' + text)}?")
    if not text.isprintable() or len(text) > 4000 or any(len(p.encode()) > 255 for p in parts):
        raise Wrong(f"{quote(text)} can't be a path.", "use printable characters, at most 255 in each part")
    if any(part in ("", ".", "..") for part in parts):
        raise Wrong(f"The path {quote(text)} has an empty, '.' or '..' part.", "write it out: /etc/motd")
    if len(parts) < 2:
        raise Wrong(f"The file {quote(text)} lies in '/' itself.", "place it in a directory: /root" + text[:40])
    if parts[0] in CLOSED_DIRECTORIES:
        raise Wrong(f"Files can't be placed in '/{parts[0]}'.", "it is the kernel's; use a command")
    return text


def _read_file_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", text):
        raise Wrong(f"{quote(text)} is not the name of a configuration file.", "write it like frr.conf")
    return text


def _read_command(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise Wrong("A command must have a text.", "write a shell command line")
    return text


def _read_initscript(text: str) -> str:
    """A script, or the name of one."""
    if not text.strip() or "\0" in text or len(text) > 100_000:
        raise Wrong("An initscript must have a text, of 100,000 characters at most.", "write a shell script")
    if not is_name(text) and "\n" not in text:
        raise Wrong(
            f"{quote(text)} is neither a script nor the name of one.", "write its lines after '|', or use `commands`"
        )
    return text


def _read_variable(text: str) -> str:
    if not re.fullmatch(_VARIABLE, text):
        raise Wrong(f"{quote(text)} is not the name of a variable.", "use letters, digits and '_', as in HTTP_PROXY")
    if text.startswith("VINI_"):
        raise Wrong(f"{quote(text)} is VINI's own to set.", "choose a name that does not begin with VINI_")
    return text


def _read_variable_text(text: str) -> str:
    if len(text) > 10_000 or any(c in text for c in "\0\n\r"):
        raise Wrong("A variable's text is one line of 10,000 characters at most.", "put longer ones into `files`")
    return text


def _read_label(text: str) -> str:
    if not text or not text.isprintable() or len(text) > 200:
        raise Wrong(f"{quote(text)} can't be a label.", "use 1 to 200 printable characters on one line")
    return text


def _read_content(text: str) -> str:
    if "\0" in text:
        raise Wrong("A file's text may not hold a NUL character.", "remove it")
    return text


def _read_object(text: str) -> str:
    objects.decoded(text)
    return text


def _read_trace(text: str) -> str:
    """A file's path, `none`, or the trace's own lines; what is in it is looked at where it can be read."""
    if not text or "\0" in text:
        raise Wrong("A trace is a file's path.", "write it like traces/cell.csv, or 'none'")
    return text


def _read_end(text: str) -> tuple[str, str]:
    """`sliver` or `sliver:vif`."""
    sliver, colon, dev = text.partition(":")
    if colon and not dev:
        raise Wrong(f"{quote(text)} has no vif after the ':'.", f"write {sliver}, or {sliver}:eth1")
    return sliver, VIF_NAME.read(dev) if colon else ""


def _read_line(text: str) -> tuple[str, str]:
    parts = re.split(r"\s+--\s+", text.strip())
    if len(parts) == 2 and not any(re.search(r"\s", p) for p in parts):
        return parts[0], parts[1]
    two = re.fullmatch(r"(\S+?)\s*(?:--|->|<->|-|,)\s*(\S+)", text.strip())
    hint = f"did you mean '{two[1]} -- {two[2]}'?" if two and len(text) < 90 else "write 'denver -- seattle'"
    raise Wrong(f"{quote(text)} is not a link.", hint)


def _read_vif(text: str) -> str:
    if not names.VIF_NAME.match(text):
        rule = "use at most 15 of A-Z, a-z, 0-9, '_', '-' and '.'"
        raise Wrong(f"{quote(text)} can't be a vif's name.", rule)
    if text in RESERVED_VIFS:
        raise Wrong(f"The vif name {quote(text)} is the kernel's own.", "take another, such as eth1")
    return text


def _read_daemon(text: str) -> str:
    """A built-in daemon; or one that is installed, which is looked for only where it must be one."""
    return text if text in DAEMONS else words(*daemons.names()).read(text)


def _read_everyone(text: str) -> str:
    if text != "*" and not names.SLIVER_NAME.match(text):
        raise Wrong(f"{quote(text)} can't be a sliver.", 'name a sliver, or write "*" for all of them')
    return text


_ANY_NAME: Json = {"type": ["string", "integer"]}
SLIVER_NAME = _matching(names.SLIVER_NAME, "a sliver's name", _NAME_RULE, keep=True)
SLICE_NAME = _matching(names.SLICE_NAME, "a slice's name", "use a-z, 0-9, '_' and '-' inside, at most 40 characters")
LINK_NAME = _matching(names.SLICE_NAME, "a link's name", "use a-z, 0-9, '_' and '-' inside, at most 40 characters")
GROUP_NAME = _matching(names.SLICE_NAME, "a group's name", "use a-z, 0-9, '_' and '-' inside, at most 40 characters")
NODE_NAME = _matching(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z"), "a node's name", "use letters, digits, '-', '_' and '.'"
)
SITE_NAME = _matching(re.compile(r"[a-z0-9]{1,20}\Z"), "a site's name", "use its short name, as `vini site` lists it")
APART = _matching(names.SLICE_NAME, "a word for 'apart'", "use a-z, 0-9, '_' and '-' inside, at most 40 characters")
VIF_NAME = Text(_read_vif, {"type": "string", "pattern": _pattern(names.VIF_NAME)})
REFERENCE = Text(str, _ANY_NAME)  # to a sliver or group: checked where all names are known
ADDRESS = _text(_read_address, r"^[0-9A-Fa-f:.]+/[0-9]+$")
LOOPBACK = _text(_read_loopback, r"^[0-9A-Fa-f:.]+(/32|/128)?$")
PREFIX = _text(_read_prefix, r"^[0-9A-Fa-f:.]+(/[0-9]+)?$")
DESTINATION = _text(_read_destination, r"^(default|[0-9A-Fa-f:.]+(/[0-9]+)?)$")
GATEWAY = Text(_read_gateway, _ANY_NAME)
AREA = Text(_read_area, {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 4294967295}, {"type": "string"}]})
PATH = _text(_read_path, r"^/[^/]+/")
VOLUME_NAME = _matching(names.SLIVER_NAME, "a volume's name", _NAME_RULE)
VOLUME_PATH = _text(_read_volume_path, r"^/[^/]+")
IMAGE = _text(_read_image, rf"^(/[^/]+/|{_REGISTRY}$|{_IMAGE_NAME}$)")
FILE_NAME = _text(_read_file_name, r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")
FILE_TEXT = Text(_read_content, {"type": ["string", "number", "boolean"]})
OBJECT = Text(_read_object, {"type": "string", "pattern": r"^[A-Za-z0-9+/=\s]+$"})
INITSCRIPT = Text(_read_initscript, {"type": "string", "minLength": 1})
VARIABLE = _text(_read_variable, f"^{_VARIABLE}$")
VARIABLE_TEXT = Text(_read_variable_text, {"type": ["string", "number", "boolean"]})
COMMAND = Text(_read_command, {"type": "string", "minLength": 1})
LABEL = Text(_read_label, {"type": ["string", "number"], "maxLength": 200})
DAEMON = Text(_read_daemon, {"anyOf": [{"enum": list(DAEMONS)}, {"type": "string", "pattern": "^[a-z][a-z0-9-]*$"}]})
PROTOCOL = words(*PROTOCOLS, keep=True)
DELAY = _text(partial(units.read_ms, high=100_000.0), units.DURATION)
HELLO = _text(partial(units.read_s, low=0.05, high=65_535.0), units.DURATION, keep=True)
WITHIN = _text(partial(units.read_s, low=0.1, high=86_400.0), units.DURATION)
RATE = _text(units.read_mbit, units.RATE)
_SHARE: Json = {"anyOf": [{"type": "string", "pattern": units.LOSS}, {"type": "number"}]}
LOSS = Text(units.read_loss, _SHARE)
SHARE = Text(partial(units.read_loss, what="share"), _SHARE)
QUEUE = Text(
    units.read_queue,
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1_000_000}, {"type": "string", "pattern": units.QUEUE}]},
)
PACKETS = Text(
    units.read_packets, {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": units.PACKETS}]}
)
TRACE = Text(_read_trace, {"type": ["string", "integer"], "minLength": 1})
END = Text(_read_end, {"type": ["string", "integer"], "pattern": r"^[a-z0-9-]+(:.+)?$"})
ENDS = Text(_read_line, {"type": "string", "pattern": LINE})
EVERYONE = Text(_read_everyone, _ANY_NAME)  # or one sliver
