#!/usr/bin/env python3
"""Asks the node's agent, from within a sliver: `vini-ask help`.

  vini-ask self                   who am I, until when, what may I take
  vini-ask load                   my counters
  vini-ask tables                 tables of my program in the kernel
  vini-ask row TABLE KEY          what one holds at a key (hexadecimal digits)
  vini-ask set-row TABLE KEY [VALUE]   set that, or without VALUE take it out
  vini-ask watch                  a line whenever something changes, until interrupted
  vini-ask port PORT COMMAND ...  run a command with a socket that listens at that TCP port of the node, as
                                  descriptor 3 with LISTEN_FDS and LISTEN_PID, as sd_listen_fds(3) has it

Answers are JSON.  Exit code 1: refused, and standard error says why.  The protocol: docs/reference/broker.md.
A program of its own with nothing of VINI's in it: it lies in the sliver, beside the socket.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

SOCKET = os.path.join(os.path.dirname(os.path.realpath(__file__)), "broker.sock")  # noqa: PTH118,PTH120
PATIENCE_S = 15.0  # for an agent that is being replaced


def connected() -> socket.socket:
    end = time.monotonic() + PATIENCE_S
    while True:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            directory = os.open(os.path.dirname(SOCKET), os.O_RDONLY)  # noqa: PTH120  # a path may be too long
            s.connect(f"/proc/self/fd/{directory}/broker.sock")
            os.close(directory)
            return s
        except OSError as e:
            s.close()
            if time.monotonic() > end:
                sys.exit(f"vini-ask: the node's agent does not answer ({e.strerror}); is it running?")
            time.sleep(0.1)


def asked(words: list[str]) -> dict[str, object]:
    what, *rest = words
    numbers = {"row": (2, 2), "set-row": (2, 3), "port": (1, 10**6)}
    least, most = numbers.get(what, (0, 0))
    if not least <= len(rest) <= most:
        sys.exit(f"vini-ask: `vini-ask {what}` is not called so.\n\n{__doc__}")
    if what in ("row", "set-row"):
        return dict(zip(("ask", "table", "key", "value"), words))  # noqa: B905  # of Python 3.10
    if what == "port":
        if not rest[0].isdigit():
            sys.exit(f"vini-ask: a port is a number, not {rest[0]!r}.")
        return {"ask": what, "tcp": int(rest[0])}
    return {"ask": what}


def main(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(__doc__.strip())
        return
    s = connected()
    s.sendall(json.dumps(asked(words)).encode() + b"\n")
    data, fds, _, _ = socket.recv_fds(s, 1 << 16, 4)
    while data and not data.endswith(b"\n"):
        more = s.recv(1 << 16)
        if not more:
            break
        data += more
    if not data.strip():
        sys.exit("vini-ask: the agent hung up.")
    first, _, rest = data.partition(b"\n")
    reply = json.loads(first)
    if "ok" not in reply:
        sys.exit(f"vini-ask: {reply.get('sentence', reply)}")
    if words[0] == "port" and len(words) > 2:
        run(fds[0], words[2:])
    print(json.dumps(reply["ok"], indent=None if words[0] == "watch" else 2), flush=True)
    if words[0] == "watch":
        sys.stdout.write(rest.decode())
        for line in s.makefile():
            sys.stdout.write(line)
            sys.stdout.flush()


def run(fd: int, command: list[str]) -> None:
    os.dup2(fd, 3, inheritable=True)
    if fd != 3:
        os.close(fd)
    environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    try:
        os.execvpe(command[0], command, environment)
    except OSError as e:
        sys.exit(f"vini-ask: {command[0]}: {e.strerror}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)
