"""SSH into slivers of a testbed: who may, for how long, and that neither a central nor an agent is needed for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from own_place import eventually, run
from testbed import ADMIN, SITE, Testbed, testbed

from vini.node.ssh.place import running

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ssh")]

SLICE = "home_ssh"
TEXT = f"""
name: {SLICE}
slivers:
  a: {{node: n1, commands: [echo said]}}
  b: {{node: n2}}
links: [a -- b]
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        made.vini("slice", "create", SLICE, "--description", "a pair", "--url", "https://example.org")
        path = made.directory / "pair.yaml"
        path.write_text(TEXT)
        made.vini("up", str(path), "--slice", SLICE)
        yield made
        made.vini("down", "-s", SLICE)


@pytest.fixture
def key(bed: Testbed, tmp_path: Path) -> Path:
    """A pair of which the account has the public half."""
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    assert f"of {ADMIN} opens" in bed.vini("key", "add", f"{path}.pub")
    return path


def ssh(bed: Testbed, key: Path, sliver: str, *words: str) -> subprocess.Popen[str]:
    """Plain OpenSSH, to the node's address; the host key is the one that the central names."""
    host = bed.hosts["n1" if sliver == "a" else "n2"]
    found = running(host.own.place)
    known = key.with_name("known_hosts")
    known.write_text(f"node {found.host_key if found else ''}\n")
    options = ["HostKeyAlias=node", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes",
               "BatchMode=yes", "ConnectTimeout=20"]  # fmt: skip
    return subprocess.Popen(
        ["ssh", "-F", "none", "-p", "2222", "-i", str(key), *(w for o in options for w in ("-o", o)),
         f"{SLICE}.{sliver}@{host.ip}", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(bed: Testbed, key: Path, sliver: str = "a") -> str:
    out, err = ssh(bed, key, sliver, "echo in $VINI_NAME").communicate(timeout=60)
    return out.strip() or err


def number(bed: Testbed) -> str:
    return bed.vini("key").splitlines()[-1].split()[0]


def stays(bed: Testbed, key: Path) -> subprocess.Popen[str]:
    """Somebody who is in, and stays."""

    def comes() -> subprocess.Popen[str] | None:
        process = ssh(bed, key, "a", "echo in; exec sleep 1000")
        assert process.stdout
        if process.stdout.readline() == "in\n":
            return process
        process.communicate()
        return None

    found = eventually(comes)
    assert found
    return found


def is_put_out(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=60)
    assert process.returncode == 255
    assert "does not open this slice any more" in err


def test_a_members_key_opens_every_sliver_on_its_node_and_only_as_long_as_he_has_it(bed: Testbed, key: Path) -> None:
    eventually(lambda: said(bed, key) == "in a")
    eventually(lambda: said(bed, key, "b") == "in b")
    out = bed.vini("ssh", "-s", SLICE, "b", "-i", str(key), "-o", "BatchMode=yes", "getent hosts a; echo $VINI_SLIVER")
    assert f"{SLICE}.b" in out
    assert out.split()[1].startswith("a")  # by the slice's names
    inside = stays(bed, key)
    bed.vini("key", "delete", number(bed))
    is_put_out(inside)
    # The server ends some seconds after nobody has a key for anything on its node.
    assert any(why in said(bed, key) for why in ("Permission denied", "Connection refused"))


def test_who_comes_in_past_the_central_is_an_event_and_so_is_a_command_through_it(bed: Testbed, key: Path) -> None:
    def events(what: str) -> list[dict]:
        return bed.client().call("GET", "/events", dict, what=what, kind="slice", target=SLICE, limit=1000)["items"]

    eventually(lambda: said(bed, key) == "in a", 60)
    for what in ("begin ssh", "end ssh"):
        eventually(lambda what=what: any(f"{ADMIN} in a" in e["detail"] for e in events(what)), 60)
    assert {e["who"] for e in events("end ssh")} == {"node n1"} and events("end ssh")[0]["duration_s"] > 0
    bed.vini("exec", "-s", SLICE, "a", "--", "sh", "-c", "exit 3 # secret", check=False)
    (ended,) = eventually(lambda: [e for e in events("end exec") if "exit code 3" in e["detail"]])
    assert (ended["who"], ended["detail"]) == (ADMIN, "sh in a: exit code 3") and ended["duration_s"] > 0
    assert not any("secret" in e["detail"] for e in events("*"))


def test_the_blacklist_and_the_end_of_a_membership_put_out(bed: Testbed, key: Path) -> None:
    inside = stays(bed, key)
    bed.vini("slice", "share", SLICE, ADMIN, "--end")
    is_put_out(inside)
    bed.vini("slice", "share", SLICE, ADMIN)
    inside = stays(bed, key)
    bed.client().call("POST", "/key-blacklist", type(None), {"key": key.with_suffix(".pub").read_text().strip()})
    is_put_out(inside)
    assert "blacklist" in bed.vini("key", "add", f"{key}.pub", check=False)


def test_who_was_let_in_comes_in_with_the_central_and_the_agent_away(bed: Testbed, key: Path) -> None:
    inside = stays(bed, key)
    n1 = bed.hosts["n1"]
    bed.central.kill()
    n1.kill()
    try:
        assert said(bed, key) == "in a"
        assert inside.poll() is None
    finally:
        n1.start()
        bed.central.up()
        eventually(n1.is_connected, 120)
    bed.vini("key", "delete", number(bed))
    is_put_out(inside)
    with suppress(ProcessLookupError):
        inside.kill()


def began(bed: Testbed) -> list[str]:
    """From where people came past the central, as node n1 told."""
    items = bed.client().call("GET", "/events", dict, what="begin ssh", limit=1000)["items"]
    return [e["source"] for e in items if e["who"] == "node n1"]


def test_a_node_that_can_not_be_dialled_is_reached_through_the_central(bed: Testbed, key: Path, tmp_path: Path) -> None:
    wall = "add table inet t; add chain inet t c { type filter hook input priority 0; }; "
    wall += 'add rule inet t c iif != "lo" tcp dport 2222 reject with tcp reset'
    at = ("nsenter", f"--net={bed.hosts['n1'].path}", "nft")
    eventually(lambda: said(bed, key) == "in a")
    run(*at, wall)
    try:
        assert "Connection refused" in said(bed, key)
        options = ("-i", str(key), "-o", "BatchMode=yes")
        assert "through the central" in bed.vini(
            "ssh", "-s", SLICE, "a", *options, "echo $VINI_NAME; exit 3", check=False
        )
        assert "\na\n" in "\n" + bed.vini("ssh", "-s", SLICE, "a", *options, "echo $VINI_NAME")
        note, _, text = bed.vini("ssh-config", "-s", SLICE, "--json").partition("\n")
        assert "n1" in note
        rows = {r["sliver"]: r for r in json.loads(text)}
        assert rows["b"]["proxy_command"] == ""
        assert plain(key, rows["a"], "echo $VINI_NAME; exit 5") == (5, "a\n")
        large = tmp_path / "large"
        large.write_bytes(os.urandom(5 << 20))
        assert plain(key, rows["a"], "sha256sum", stdin=large)[1].split() == run("sha256sum", large).split()[:1] + ["-"]
    finally:
        run(*at, "delete table inet t")
    before = len(began(bed))
    assert said(bed, key) == "in a"
    eventually(lambda: len(began(bed)) > before, 60)
    assert not any(source.startswith("127.") for source in began(bed)), (
        "the central knows of those, and they are no news"
    )
    rows = {r["sliver"]: r for r in json.loads(bed.vini("ssh-config", "-s", SLICE, "--through", "--json"))}
    assert plain(key, rows["b"], "echo $VINI_NAME") == (0, "b\n")


def plain(key: Path, row: dict, command: str, stdin: Path = Path("/dev/null")) -> tuple[int, str]:
    """OpenSSH by a ProxyCommand: its exit code, and what it printed."""
    known = key.with_name("known")
    known.write_text(f"node {row['host_key']}\n")
    options = {"HostKeyAlias": "node", "UserKnownHostsFile": known, "StrictHostKeyChecking": "yes", "BatchMode": "yes",
               "IdentitiesOnly": "yes", "ProxyCommand": row["proxy_command"]}  # fmt: skip
    with stdin.open("rb") as file:
        done = subprocess.run(
            ["ssh", "-F", "none", "-i", str(key), *(w for k, v in options.items() for w in ("-o", f"{k}={v}")),
             f"{row['user']}@{row['host']}", command], stdin=file, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode != 255, done.stderr
    return done.returncode, done.stdout


def test_a_command_runs_and_files_are_copied_on_every_node(bed: Testbed, tmp_path: Path) -> None:
    rows = json.loads(bed.vini("exec", "-s", SLICE, "--all", "--json", "--", "sh", "-c", "echo $VINI_NAME; exit 3",
                               check=False))  # fmt: skip
    assert [(r["sliver"], r["exit_code"], r["stdout"]) for r in rows] == [("a", 3, "a\n"), ("b", 3, "b\n")]
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3 << 20))
    bed.vini("cp", "-s", SLICE, "--all", str(large), f":{tmp_path}/there/")
    bed.vini("cp", "-s", SLICE, "--all", f":{tmp_path}/there/large", str(tmp_path / "back"))
    assert {(tmp_path / "back" / n / "large").read_bytes() for n in ("a", "b")} == {large.read_bytes()}


def test_what_a_process_says_is_shown_from_afar(bed: Testbed) -> None:
    assert eventually(lambda: " | said\n" in bed.vini("logs", "-s", SLICE, "a"))
    assert " | said\n" in bed.vini("logs", "-s", SLICE, "--boot", "a")
    assert "boot | " in bed.vini("logs", "-s", SLICE, "a", "boot")
    assert "has no log of 'x'" in bed.vini("logs", "-s", SLICE, "b", "x", check=False)


def test_what_an_admin_grants_a_process_has_of_its_node_and_of_no_other(bed: Testbed) -> None:
    def asked(sliver: str) -> str:
        return bed.vini("exec", "-s", SLICE, sliver, "--", "vini-ask", "port", "8099", "true", check=False)

    assert "is not granted to this slice" in eventually(lambda: asked("a"))
    assert "tcp:8099" in bed.vini("grant", "-s", SLICE, "tcp:8099")
    eventually(lambda: asked("a") == "")
    eventually(lambda: asked("b") == "")
    assert '"node": "n2"' in bed.vini("exec", "-s", SLICE, "b", "--", "vini-ask", "self")
    bed.vini("grant", "-s", SLICE, "--none")
    eventually(lambda: "is not granted" in asked("a"))


def test_a_guest_comes_into_the_sliver_that_he_was_invited_to_and_no_other(bed: Testbed, tmp_path: Path) -> None:
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    bob = "bob@example.org"
    client = bed.client()
    client.call("POST", "/persons", dict, {"email": bob, "site": SITE})
    client.call("POST", f"/persons/{bob}/keys", dict, {"key": path.with_suffix(".pub").read_text().strip()})
    assert "in a until" in bed.vini("slice", "invite", SLICE, bob, "--sliver", "a", "--hours", "1")
    eventually(lambda: said(bed, path) == "in a")
    assert "Permission denied" in said(bed, path, "b")
    inside = stays(bed, path)
    bed.vini("slice", "invite", SLICE, bob, "--end")
    is_put_out(inside)
