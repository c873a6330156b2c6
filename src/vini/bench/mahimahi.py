"""The peer of link benchmarks: mahimahi's mm-delay, where somebody installed it.

It wants to be setuid root, to be started by somebody else, and IP forwarding; so it gets a namespace of its own.  Its
shell's other end, to which we connect, is $MAHIMAHI_BASE.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from vini.model import ViniError
from vini.node import netns

_NAMESPACE = Path("/run/netns/vbmahimahi")
_NOBODY = 65534
_READY_WITHIN_S = 30


def mm_delay() -> str | None:
    """Where it is."""
    return shutil.which("mm-delay")


@contextmanager
def namespace(window: int) -> Iterator[None]:
    """For it to run in; TCP may have `window` bytes on the way there."""
    _remove()
    _checked(["ip", "netns", "add", _NAMESPACE.name])
    try:
        _checked(["ip", "-n", _NAMESPACE.name, "link", "set", "lo", "up"])
        _set(_NAMESPACE, "net/ipv4/ip_forward", "1")
        _open_window(_NAMESPACE, window)
        yield
    finally:
        _remove()


def _remove() -> None:
    subprocess.run(["ip", "netns", "delete", _NAMESPACE.name], capture_output=True, check=False)


def stream_gbit(delay_ms: int, omit_s: int, seconds: float, window: int) -> float:
    """Of one TCP stream out of its shell, after so many seconds to open its window."""
    with netns.inside(_NAMESPACE):
        server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = f"sleep 0.5; exec iperf3 -J -O {omit_s} -t {seconds:g} -c $MAHIMAHI_BASE"
        said = json.loads(_in_shell(delay_ms, client, window, omit_s + 2 * seconds))
    finally:
        server.kill()
        server.wait()
    if "error" in said:
        raise ViniError(f"iperf3 failed behind mm-delay: {said['error']}")
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e9


def round_trip_ms(delay_ms: int, window: int) -> float:
    """The median of a hundred, one after the other."""
    said = _in_shell(delay_ms, "exec ping -n -i 0.02 -c 100 $MAHIMAHI_BASE", window, 10)
    return median_trip_ms(said)


def median_trip_ms(ping_said: str) -> float:
    """Of ping's output."""
    return median(float(x) for x in re.findall(r"time=([\d.]+)", ping_said))


def _in_shell(delay_ms: int, command: str, window: int, for_s: float) -> str:
    """What a command says behind mm-delay; it starts when TCP may have so much on the way in there, too."""
    argv = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", str(mm_delay()), str(delay_ms)]
    waiting = f"echo $$; read go; {command}"
    with netns.inside(_NAMESPACE):
        shell = subprocess.Popen(
            [*argv, "sh", "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd="/",
        )  # fmt: skip
    assert shell.stdin and shell.stdout and shell.stderr
    try:
        first = shell.stdout.readline().strip()
        if not first.isdecimal():
            raise ViniError(f"mm-delay does not work here: {shell.stderr.read().strip() or first}")
        _open_window(Path(f"/proc/{first}/ns/net"), window)
        return shell.communicate("go\n", timeout=_READY_WITHIN_S + for_s)[0]
    finally:
        if shell.poll() is None:
            shell.kill()
        shell.wait()


def _open_window(namespace: Path, window: int) -> None:
    for name in ("tcp_rmem", "tcp_wmem"):
        _set(namespace, f"net/ipv4/{name}", f"4096 131072 {window}")


def _set(namespace: Path, setting: str, value: str) -> None:
    with netns.inside(namespace):
        fd = os.open(f"/proc/sys/{setting}", os.O_WRONLY)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


def _checked(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ViniError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")
