"""RIP version 2 (RFC 2453) for IPv4, as small as it goes: no authentication, no triggered updates.

speaker.py CONFIG NEIGHBORS: reads {"devices", "connected", "source"} from CONFIG, writes whom it hears to NEIGHBORS.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from ipaddress import IPv4Network
from pathlib import Path

GROUP, PORT, INFINITY = "224.0.0.9", 520, 16
UPDATE_S, TIMEOUT_S = 5, 15
PROTOCOL = "189"  # "rip" in /etc/iproute2/rt_protos

Route = tuple[int, str, str, float]  # metric, next hop, device, when it was heard last


def open_socket(dev: str) -> socket.socket:
    """A socket for RIP's multicast group on one device."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
    s.bind(("", PORT))
    here = struct.pack("4s4si", socket.inet_aton(GROUP), bytes(4), socket.if_nametoindex(dev))
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, here)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    return s


def ip_route(*words: str) -> None:
    subprocess.run(["ip", "route", *words, "proto", PROTOCOL], check=False)


def announce(s: socket.socket, dev: str, connected: list[str], table: dict[str, Route]) -> None:
    """All that is known, 25 entries a packet; what was learnt by `dev` is unreachable by us (poisoned reverse)."""
    entries = [(prefix, 1) for prefix in connected]
    entries += [(p, INFINITY if by == dev else metric) for p, (metric, _, by, _) in table.items()]
    for i in range(0, len(entries), 25):
        packet = struct.pack("!BBH", 2, 2, 0)
        for prefix, metric in entries[i : i + 25]:
            net = IPv4Network(prefix)
            packet += struct.pack("!HH4s4s4sI", 2, 0, net.network_address.packed, net.netmask.packed, bytes(4), metric)
        s.sendto(packet, (GROUP, PORT))


def hear(packet: bytes, via: str, dev: str, source: str, own: set[str], table: dict[str, Route]) -> None:
    """Take over what a neighbour's response says, if it is news, or from whom we had it (RFC 2453, 3.9.2)."""
    if packet[:2] != b"\x02\x02":
        return
    for i in range(4, len(packet) - 19, 20):
        _, _, address, mask, _, metric = struct.unpack("!HH4s4s4sI", packet[i : i + 20])
        prefix = f"{socket.inet_ntoa(address)}/{int.from_bytes(mask, 'big').bit_count()}"
        old, metric = table.get(prefix), min(metric + 1, INFINITY)
        if prefix in own or (old and old[1] != via and metric >= old[0]):
            continue
        if metric < INFINITY:
            table[prefix] = (metric, via, dev, time.monotonic())
            if not old or old[1] != via:
                ip_route("replace", prefix, "via", via, "dev", dev, *(("src", source) if source else ()))
        elif old:
            del table[prefix]
            ip_route("del", prefix)


def main(config: Path, neighbors: Path) -> None:
    given = json.loads(config.read_text())
    sockets = {open_socket(dev): dev for dev in given["devices"]}
    table: dict[str, Route] = {}
    heard: dict[tuple[str, str], float] = {}
    ip_route("flush")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    update = 0.0
    while True:
        now = time.monotonic()
        if now >= update:
            update = now + UPDATE_S
            for prefix in [p for p, route in table.items() if now - route[3] > TIMEOUT_S]:
                del table[prefix]
                ip_route("del", prefix)
            for s, dev in sockets.items():
                try:
                    announce(s, dev, given["connected"], table)
                except OSError as e:  # the link is down: later again
                    print(f"{dev}: {e}", flush=True)
        for s in select.select(list(sockets), [], [], max(0.0, update - now))[0]:
            packet, (via, _) = s.recvfrom(4096)
            heard[via, sockets[s]] = now
            hear(packet, via, sockets[s], given["source"], set(given["connected"]), table)
        alive = [f"{via} {dev}\n" for (via, dev), at in heard.items() if now - at <= TIMEOUT_S]
        neighbors.write_text("pyrip runs\n" + "".join(alive))


try:
    main(Path(sys.argv[1]), Path(sys.argv[2]))
finally:
    ip_route("flush")  # what it leaves behind would lead on
