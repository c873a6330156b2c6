"""FRR 8 (https://docs.frrouting.org/en/stable-8.4/): zebra, and one daemon a protocol.

Here are the files and processes; `config` writes what each daemon reads, its own `frr/<daemon>.conf`, `integrated`
takes apart what a user wrote for all of them, `neighbours` reads what they tell.  All paths are given explicitly, so
that any number of routers run side by side in network namespaces alone; FRR's `-N` needs no more than that but a mount
namespace.
"""

from __future__ import annotations

import re
import shlex

from vini.model import AnyObject, File, Process, Ready, Router
from vini.plugins import intent
from vini.plugins.frr import config, integrated
from vini.plugins.frr.daemons import BIN, DIR, VTYSH
from vini.plugins.frr.neighbours import adjacencies as adjacencies
from vini.plugins.frr.neighbours import adjacencies_argv as adjacencies_argv

# A daemon that finds no zebra tries again only 10 s later (lib/zclient.c), so it starts when zebra listens.
AFTER_ZEBRA = ("/bin/sh", "-c", 'until [ -S "$0" ]; do sleep 0.02; done; exec "$@"', f"{DIR}/zserv.api")
BEFORE_ALL = ("/bin/sh", "-c", 'rm -f "$0"; exec "$@"', f"{DIR}/zserv.api")  # what a killed zebra left behind
# A daemon only logs a line that it doesn't understand, and goes on without: not what the line's author expects.
# vtysh knows the lines of all daemons, of which an integrated file's interfaces have several's; it exits with 2 or so.
REFUSE_UNKNOWN = f'vtysh -C --vty_socket "{DIR}" --config_dir "{DIR}" -f "{DIR}/%s" >&2 || exit 1; '
# What a daemon itself refuses may be a mistake of meaning.  It is asked in an empty network namespace: even with -C,
# bgpd listens and zebra sets addresses.
REFUSE_WRONG = (
    "said=$(unshare --net %s -C 2>&1 | uniq); "
    'if wrong=$(echo "$said" | grep "on config line" | grep -vFf "%s"); then '
    'echo "$said" | grep "^[^0-9]" >&2; echo "$wrong" >&2; exit 1; fi; '
)
# When a router loses its loopback's address, the kernel drops all routes of which that is the source, zebra tries each
# again at once, is refused, and leaves it at that; but it says so.  A change of the route-map that gives them their
# source has it try again all that it gives to the kernel, after a delay of 5 s by default.
REFUSED = "Route install failed"


def objects(router: Router) -> tuple[AnyObject, ...]:
    """The configuration files and processes of one FRR router: zebra and the daemons that the intent needs."""
    texts = config.configs(router)
    files = [File(router.ns, f"frr/{daemon}.conf", text, mode=0o640) for daemon, text in texts.items()]
    # vtysh complains about a directory without it; reloading needs it to say "integrated" (frr-reload.py).
    vtysh = File(router.ns, "frr/vtysh.conf", "service integrated-vtysh-config\n", mode=0o640)
    if whole := router.routing.raw.get("frr.conf"):
        files.append(File(router.ns, "frr/frr.conf", whole, mode=0o640))
        files.append(File(router.ns, "frr/shared-lines", integrated.shared(whole), mode=0o640))
    return (vtysh, *files, *(_process(router, daemon, text) for daemon, text in texts.items()))


def _process(router: Router, daemon: str, text: str) -> Process:
    conf = f"{DIR}/{daemon}.conf"
    shell, option, script, socket = BEFORE_ALL if daemon == "zebra" else AFTER_ZEBRA
    # Root, as its run directory is; FRR insists on the group that may use its terminals.  -P 0: no TCP terminal.
    words = (
        f"{BIN}/{daemon}", "-f", conf, "-z", f"{DIR}/zserv.api", "--vty_socket", DIR, "-i", f"{DIR}/{daemon}.pid",
        "-u", "root", "-g", "frrvty", "-P", "0", "--log", "stdout", "--log-level", "informational",
        *(("--bfdctl", f"{DIR}/bfdd.sock") if daemon == "bfdd" else ()),
    )  # fmt: skip
    reload: tuple[str, ...] = (
        "python3", f"{BIN}/frr-reload.py", "--reload", "--stdout", "--bindir", "/usr/bin", "--confdir", DIR,
        "--rundir", DIR, "--vty_socket", DIR, "--daemon", daemon, conf,
    )  # fmt: skip
    refusals, again = _refusals(router, daemon, words), _again(router) if daemon == "zebra" else ""
    if refusals or again:
        last = f'"$@" && exec {again}' if again else 'exec "$@"'
        reload = ("/bin/sh", "-c", refusals + last, "sh", *reload)
    return Process(
        ns=router.ns,
        name=daemon,
        argv=(shell, option, refusals + script, socket, *words),
        config=intent.digest(re.sub(r"\n+", "\n", text).lstrip("\n")),  # blank ones stand for others' blocks
        reload=reload,
        reload_on=REFUSED if again else "",
        ready=Ready((*VTYSH, "-d", daemon, "-c", "show version"), r"^FRRouting"),
        after=() if daemon == "zebra" else ("zebra",),
        along=True,  # a daemon does not notice for long that its zebra is another one
    )


def _again(router: Router) -> str:
    """The command by which zebra tries again what the kernel refused; "" where our route-maps aren't in use."""
    if router.routing.raw.keys() & {"frr.conf", "zebra.conf"} or not (sources := list(config.sources(router))):
        return ""
    lines = ["configure terminal"]
    for family, source, _ in sources:
        lines += [f"route-map SOURCE{family} permit 10", "no set src", f"set src {source}"]
    return shlex.join((*VTYSH, "-d", "zebra", *(word for line in lines for word in ("-c", line))))


def _refusals(router: Router, daemon: str, words: tuple[str, ...]) -> str:
    """Shell text that ends with FRR's words where the user's own file is wrong; "" where the text is ours."""
    if f"{daemon}.conf" in router.routing.raw:
        given, shared = f"{daemon}.conf", "/dev/null"
    elif "frr.conf" in router.routing.raw:
        given, shared = "frr.conf", f"{DIR}/shared-lines"
    else:
        return ""
    return REFUSE_UNKNOWN % given + REFUSE_WRONG % (shlex.join(words), shared)
