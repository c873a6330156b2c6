"""Measuring from inside slivers, by a program that their own Python runs (`round_trips`)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vini.client import Client
from vini.model import Command, Resources, Sliver, ViniError

PROGRAM = Path(__file__).with_name("round_trips.py")
AT = "/srv/round_trips.py"  # where a sliver that measures has it
Trips = list[float | None]  # ms; None: it never came back


def measuring(name: str, runs: Sequence[str], resources: Resources) -> Sliver:
    """A sliver that has the program, and runs it with each of these words."""
    return Sliver(
        name,
        runtime="container",
        files={AT: PROGRAM.read_text()},
        commands=tuple(Command(f"exec /usr/bin/python3 -I {AT} {words}", service=True) for words in runs),
        resources=resources,
    )


def asked(client: Client, slice_: str, sliver: str, address: str, port: int, count: int, interval_ms: float) -> Trips:
    """Round trips in ms, asked from inside a sliver.  ViniError where none came back."""
    trips: Trips = json.loads(said(client, slice_, sliver, "ask", address, port, count, interval_ms))
    if not any(trips):
        raise ViniError(f"Nothing answered {sliver} of {slice_} at {address}, port {port}.")
    return trips


def said(client: Client, slice_: str, sliver: str, *words: object) -> str:
    """What the program prints in a sliver."""
    command = client.enter(slice_, sliver, ["/usr/bin/python3", "-I", AT, *map(str, words)])
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ViniError(f"In {sliver} of {slice_} {words[0]} failed: {done.stderr.strip().splitlines()[-1:]}.")
    return done.stdout


def filled(client: Client, slice_: str, sliver: str, address: str, port: int, seconds: float) -> float:
    """Mbit/s that TCP carries in that time."""
    return float(json.loads(said(client, slice_, sliver, "fill", address, port, seconds)))


def quantile(values: list[float], share: float) -> float:
    """The value of which that share is below."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
