"""Routing intent -> configuration, against texts that a person has read; and what daemons print -> adjacencies.

To change the texts on purpose: `VINI_GOLDEN=write pytest tests/unit/test_routers.py`, then read the difference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from vini.model import BgpPeer, File, Process, Router, RouterVif, Routing, Unsupported
from vini.plugins import ROUTERS, expected_adjacencies, frr

GOLDEN = Path(__file__).parent / "golden" / "routers"
SPOKEN = {
    "frr": ("ospf", "ospf6", "isis", "rip", "ripng", "bgp"),
    "bird": ("ospf", "ospf6", "rip", "ripng", "babel", "bgp"),
}
PAIRS = [(daemon, protocol) for daemon, protocols in SPOKEN.items() for protocol in protocols]


def vif(dev: str, first: int, cost: int, protocols: tuple[str, ...], area: str) -> RouterVif:
    ours, theirs = ((f"10.0.0.{n}/31", f"fd00::{n}/127") for n in (first, first + 1))
    return RouterVif(dev, dev.removeprefix("to-"), ours, theirs, cost, protocols, area)


def router(daemon: str, *protocols: str, **routing: object) -> Router:
    """Denver: two neighbouring routers and a host."""
    announce = ("192.0.2.0/24",)
    igps = tuple(p for p in protocols if p not in ("bgp", "static"))
    intent = Routing(protocols=protocols, daemon=daemon, asn=65001, announce=announce, **routing)  # type: ignore[arg-type]
    vifs = (
        vif("to-seattle", 0, 2095, protocols, "0.0.0.0"),
        vif("to-kansas.1", 2, 639, protocols, "0.0.0.1"),
        msgspec.structs.replace(vif("to-pc", 4, 10, (), "0.0.0.0"), passive=igps),
    )
    peers = (
        BgpPeer("seattle", "10.0.0.1", 65002),
        BgpPeer("seattle", "fd00::1", 65002),
        BgpPeer("kansas", "10.192.0.9", 65001, True, "10.192.0.1"),
    )
    loopbacks = ("10.192.0.1/32", "fd56::1/128")
    return Router("lab.denver", "denver", "10.192.0.1", loopbacks, intent, vifs, peers)


def files(router: Router) -> dict[str, str]:
    return {o.path: o.text for o in ROUTERS[router.routing.daemon].objects(router) if isinstance(o, File)}


def processes(router: Router) -> dict[str, Process]:
    return {o.name: o for o in ROUTERS[router.routing.daemon].objects(router) if isinstance(o, Process)}


def assert_golden(name: str, texts: dict[str, str]) -> None:
    path = GOLDEN / name
    text = "".join(f"=== {at}\n{text}" for at, text in sorted(texts.items()) if at.endswith(".conf"))
    if os.environ.get("VINI_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(("daemon", "protocol"), PAIRS)
def test_configuration(daemon: str, protocol: str) -> None:
    assert_golden(f"{daemon}-{protocol}.txt", files(router(daemon, protocol)))


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_configuration_with_bfd_and_slow_timers(daemon: str) -> None:
    assert_golden(f"{daemon}-bfd.txt", files(router(daemon, "ospf", "bgp", bfd=True, hello_s=5, dead_s=10)))


ON_A_LAN = [("frr", "ospf"), ("frr", "ospf6"), ("frr", "isis"), ("bird", "ospf"), ("bird", "ospf6")]


def on_lan(daemon: str, protocol: str) -> Router:
    """The same, whose first vif is on a LAN with three others that speak the protocol, the second with one."""
    denver = router(daemon, protocol)
    first, second, host = denver.vifs
    several, one = ({"neighbors": {protocol: n}} for n in (3, 1))
    vifs = (msgspec.structs.replace(first, **several), msgspec.structs.replace(second, **one), host)
    return msgspec.structs.replace(denver, vifs=vifs)


@pytest.mark.parametrize(("daemon", "protocol"), ON_A_LAN)
def test_configuration_on_a_lan(daemon: str, protocol: str) -> None:
    assert_golden(f"{daemon}-{protocol}-lan.txt", files(on_lan(daemon, protocol)))
    assert expected_adjacencies(on_lan(daemon, protocol)) == 4


@pytest.mark.parametrize(("daemon", "protocol"), PAIRS)
@pytest.mark.parametrize("bfd", [False, True])
def test_the_daemon_itself_accepts_it(daemon: str, protocol: str, bfd: bool, tmp_path: Path) -> None:
    accepts(daemon, router(daemon, protocol, bfd=bfd), tmp_path)


@pytest.mark.parametrize(("daemon", "protocol"), ON_A_LAN)
def test_the_daemon_itself_accepts_it_on_a_lan(daemon: str, protocol: str, tmp_path: Path) -> None:
    accepts(daemon, on_lan(daemon, protocol), tmp_path)


def accepts(daemon: str, asked: Router, tmp_path: Path) -> None:
    program = frr.BIN + "/zebra" if daemon == "frr" else "bird"
    if not shutil.which(program):
        pytest.skip(f"{daemon} is not installed")
    for path, text in files(asked).items():
        conf = tmp_path / Path(path).name
        conf.write_text(text)
        if daemon == "bird" and conf.suffix == ".conf":
            said = subprocess.run(["bird", "-p", "-c", conf], capture_output=True, text=True)
        elif daemon == "frr" and conf.stem in frr.daemons.DAEMONS:
            said = subprocess.run(
                [f"{frr.BIN}/{conf.stem}", "-C", "-f", conf, "-u", "root", "-g", "frrvty", "-i", tmp_path / "pid",
                 "--vty_socket", tmp_path, "-z", tmp_path / "zserv.api"],
                capture_output=True, text=True,
            )  # fmt: skip
        else:
            continue
        assert said.returncode == 0, said.stdout + said.stderr
        for complaint in ("on config line", "has not been set"):  # FRR says so, and returns 0
            assert complaint not in said.stdout + said.stderr


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_the_papers_timers_are_given_as_they_are(daemon: str) -> None:
    conf = "frr/ospfd.conf" if daemon == "frr" else "bird/bird.conf"
    text = files(router(daemon, "ospf", hello_s=5, dead_s=10))[conf]
    wanted = ("hello-interval 5", "dead-interval 10") if daemon == "frr" else ("hello 5;", "dead 10;")
    assert [text.count(w) for w in wanted] == [2, 2]


TWO_WAY = {
    "frr": """{"neighbors": {
        "10.0.0.2": [{"ifaceName": "to-sw:10.1.0.1", "nbrState": "Full/DR", "converged": "Full"}],
        "10.0.0.3": [{"ifaceName": "to-sw:10.1.0.1", "nbrState": "2-Way/DROther", "converged": "2-Way"}],
        "10.0.0.4": [{"ifaceName": "to-x:10.2.0.1", "nbrState": "2-Way/DROther", "converged": "2-Way"}]}}""",
    "bird": """ospf4:
Router ID   Pri  State      DTime  Interface  Router IP
10.0.0.2      1  Full/DR    3.456  to-sw      10.1.0.2
10.0.0.3      1  2-Way/Other 3.4   to-sw      10.1.0.3
10.0.0.4      1  2-Way/Other 3.4   to-x       10.2.0.4
""",
}


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_two_way_is_enough_with_those_that_are_not_designated_once_there_is_one_that_is(daemon: str) -> None:
    found = ROUTERS[daemon].adjacencies("ospf", TWO_WAY[daemon])
    assert {a.neighbor: a.up for a in found} == {"10.0.0.2": True, "10.0.0.3": True, "10.0.0.4": False}


def test_hellos_below_a_second_are_frrs_alone() -> None:
    text = files(router("frr", "ospf", hello_s=0.25, dead_s=1))["frr/ospfd.conf"]
    assert text.count("dead-interval minimal hello-multiplier 4") == 2
    with pytest.raises(Unsupported, match="denver asks for a hello interval of 0.25 s"):
        files(router("bird", "ospf", hello_s=0.25, dead_s=1))
    with pytest.raises(Unsupported, match="0.25 s"):
        files(router("frr", "ospf", hello_s=0.25, dead_s=2))


@pytest.mark.parametrize(("daemon", "protocol"), [("bird", "isis"), ("frr", "babel")])
def test_what_a_daemon_does_not_speak_is_refused(daemon: str, protocol: str) -> None:
    other = {"bird": "frr", "frr": "bird"}[daemon]
    with pytest.raises(Unsupported, match=f"denver the daemon {other}"):
        files(router(daemon, protocol))


def test_a_vif_may_be_active_in_one_protocol_and_passive_in_another() -> None:
    denver = router("frr", "ospf", "isis")
    seattle = msgspec.structs.replace(denver.vifs[0], protocols=("ospf",), passive=("isis",))
    texts = files(msgspec.structs.replace(denver, vifs=(seattle, *denver.vifs[1:])))
    ospf, isis = (texts[f"frr/{d}.conf"].split("interface to-seattle")[1].split("exit")[0] for d in ("ospfd", "isisd"))
    assert "network point-to-point" in ospf and "passive" not in ospf
    assert "isis passive" in isis and "point-to-point" not in isis


def test_isis_holding_time_is_a_multiple_of_hello() -> None:
    with pytest.raises(Unsupported, match="2 to 100 times"):
        files(router("frr", "isis", hello_s=2, dead_s=5))


def test_isis_net_has_area_and_router_id() -> None:
    assert frr.config.net(router("frr", "isis")) == "49.0000.0000.0101.9200.0001.00"


def test_only_the_daemons_that_are_needed() -> None:
    assert list(processes(router("frr", "ospf", "bgp"))) == ["zebra", "ospfd", "bgpd"]
    assert processes(router("frr", "ospf"))["ospfd"].after == ("zebra",)
    assert list(processes(router("frr", "static"))) == ["zebra"]
    assert "bfdd" in processes(router("frr", "ospf", bfd=True))


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_a_change_of_cost_changes_the_digest_alone(daemon: str) -> None:
    before = router(daemon, "ospf")
    seattle = msgspec.structs.replace(before.vifs[0], cost=7)
    after = msgspec.structs.replace(before, vifs=(seattle, *before.vifs[1:]))
    changed = {name for name, p in processes(before).items() if p != processes(after)[name]}
    assert changed == {"ospfd" if daemon == "frr" else "bird"}
    for name in changed:
        old, new = processes(before)[name], processes(after)[name]
        assert old.config != new.config
        assert msgspec.structs.replace(old, config=new.config) == new


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_two_slices_share_no_path(daemon: str) -> None:
    for p in processes(router(daemon, "ospf", "bgp", bfd=True)).values():
        own = [a for a in (*p.argv, *p.reload) if a.startswith("/") and a not in ("/bin/sh", "/usr/bin")]
        assert all(a.startswith(frr.BIN) for a in own)
        assert any("{run}" in a for a in p.argv)


# --- the user's own configuration --------------------------------------------------------------

INTEGRATED = """hostname mine
interface eth0
 ip ospf area 0
router ospf
 ospf router-id 1.1.1.1
router rip
 network eth0
 passive-interface eth0
ip route 10.0.0.0/8 blackhole
"""


def test_raw_integrated_configuration_wins_and_names_its_daemons() -> None:
    mine = router("frr", raw={"frr.conf": INTEGRATED})
    assert list(processes(mine)) == ["zebra", "staticd", "ospfd", "ripd"]
    texts = files(mine)
    assert "passive-interface" in texts["frr/ripd.conf"]
    assert "passive-interface" not in texts["frr/ospfd.conf"]  # it would take it for its own
    assert "ip ospf area 0" in texts["frr/ospfd.conf"]
    assert "generated by VINI" not in "".join(texts.values())


def test_a_block_and_its_exit_leave_their_line_numbers_behind() -> None:
    text = "router bgp 1\n neighbor x\nexit\nrouter ospf\n area 0 stub\nexit\n"
    assert frr.integrated.section(text, "ospfd") == "\n\n\nrouter ospf\n area 0 stub\nexit\n"
    assert frr.integrated.section(text + "interface x\nexit\n", "ospfd").endswith("exit\ninterface x\n\n")
    texts = files(router("frr", raw={"frr.conf": "log stdout\n" + text + "line vty\n"}))
    assert texts["frr/shared-lines"] == "on config line 1:\non config line 8:\n"


def test_a_change_of_another_daemons_block_reloads_that_one_only() -> None:
    mine, changed = (router("frr", raw={"frr.conf": INTEGRATED.replace("network eth0", n)}) for n in ("x", "x\n y"))
    before, after = processes(mine), processes(changed)
    assert {name for name in before if before[name] != after[name]} == {"ripd"}


def test_blocks_of_daemons_that_are_not_run_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"denver configures eigrpd \(line 2: router eigrp 1\).*remove that block"):
        files(router("frr", raw={"frr.conf": "hostname a\nrouter eigrp 1\n network 10.0.0.0/8\n"}))


@pytest.mark.parametrize("raw", ["frr.conf", "ospfd.conf"])
def test_the_users_own_file_is_checked_before_it_is_used(raw: str) -> None:
    ospfd = processes(router("frr", "ospf", raw={raw: "router ospf\n"}))["ospfd"]
    for script in (ospfd.argv[2], ospfd.reload[2]):
        assert f'-f "{{run}}/frr/{raw}"' in script
        assert script.endswith('exec "$@"')
    assert "vtysh" not in processes(router("frr", "ospf"))["ospfd"].argv[2]


def test_raw_configuration_of_one_daemon_replaces_that_one_only() -> None:
    texts = files(router("frr", "ospf", "bgp", raw={"ospfd.conf": "router ospf\n"}))
    assert texts["frr/ospfd.conf"] == "router ospf\n"
    assert "router bgp 65001" in texts["frr/bgpd.conf"]


@pytest.mark.parametrize("raw", [{}, {"frr.conf": INTEGRATED}, {"zebra.conf": "hostname mine\nend\n"}])
def test_zebra_makes_no_nexthop_objects_whoever_writes_its_configuration(raw: dict[str, str]) -> None:
    text = files(router("frr", "ospf", raw=raw))["frr/zebra.conf"]
    assert text.count(frr.config.PLAIN_ROUTES + "\n") == 1
    for given in raw.values():
        own = frr.integrated.section(given.removesuffix("end\n"), "zebra").splitlines()
        assert text.splitlines()[: len(own) + 1] == [*own, frr.config.PLAIN_ROUTES]


def test_zebra_makes_nexthop_objects_where_the_user_says_so() -> None:
    text = f"hostname mine\n{frr.config.NEXTHOP_OBJECTS}\n"
    assert files(router("frr", "ospf", raw={"zebra.conf": text}))["frr/zebra.conf"] == text


def test_zebra_tries_again_what_the_kernel_refused_for_its_lost_source() -> None:
    zebra = processes(router("frr", "ospf", "ospf6"))["zebra"]
    assert zebra.reload_on == frr.REFUSED
    assert zebra.reload[2].count("no set src") == 2
    for lets_it_be in (router("frr", "static"), router("frr", "ospf", raw={"zebra.conf": "hostname mine\n"})):
        assert not processes(lets_it_be)["zebra"].reload_on


def test_raw_bird_configuration_is_all_there_is() -> None:
    mine = router("bird", "ospf", raw={"bird.conf": "router id 1.1.1.1;\n"})
    assert files(mine) == {"bird/bird.conf": "router id 1.1.1.1;\n"}


# --- neighbours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("daemon", "protocols", "count"), [
    ("frr", ("ospf",), 2), ("frr", ("ospf", "ospf6"), 4), ("frr", ("bgp",), 3), ("bird", ("ospf", "bgp"), 5),
    ("frr", ("static",), 0),
])  # fmt: skip
def test_expected_adjacencies(daemon: str, protocols: tuple[str, ...], count: int) -> None:
    assert expected_adjacencies(router(daemon, *protocols)) == count


SAID = {
    ("frr", "ospf"): (
        '{"neighbors":{"10.1.1.1":[{"nbrState":"Full\\/-","converged":"Full","ifaceName":"to-b:10.0.0.1"}],'
        '"10.1.1.2":[{"nbrState":"Init\\/-","converged":"Init","ifaceName":"to-c:10.0.0.2"}]}}',
        [("10.1.1.1", "to-b", True), ("10.1.1.2", "to-c", False)],
    ),
    ("frr", "ospf6"): (
        '{"neighbors":[{"neighborId":"10.1.1.1","state":"Full","interfaceName":"to-b"}]}',
        [("10.1.1.1", "to-b", True)],
    ),
    ("frr", "bgp"): (
        '{"ipv4Unicast":{"peers":{"10.0.0.1":{"state":"Established"},"10.0.0.2":{"state":"Active"}}}}',
        [("10.0.0.1", "", True), ("10.0.0.2", "", False)],
    ),
    ("frr", "isis"): (
        "Area vini:\n  System Id           Interface   L  State        Holdtime SNPA\n"
        " rb                  to-rb       2  Up            4        2020.2020.2020\n",
        [("rb", "to-rb", True)],
    ),
    ("frr", "rip"): (
        "  Routing Information Sources:\n    Gateway          BadPackets BadRoutes  Distance Last Update\n"
        "    10.17.37.236             0         0       120   00:00:00\n  Distance: (default is 120)\n",
        [("10.17.37.236", "", True)],
    ),
    ("frr", "ripng"): (
        "    Gateway          BadPackets BadRoutes  Distance Last Update\n"
        "    fe80::2c22:1dff:fec4:6519 \n                        0          0        120      00:00:00\n",
        [("fe80::2c22:1dff:fec4:6519", "", True)],
    ),
    ("bird", "ospf"): (
        "BIRD 2.0.12 ready.\nospf4:\nRouter ID   \tPri\t     State     \tDTime\tInterface  Router IP\n"
        "10.253.201.160\t  1\tFull/PtP  \t 3.834\tto-sttl    10.15.226.184\n"
        "10.238.70.143\t  1\tInit/PtP  \t 3.824\tto-snva    10.115.90.24\n",
        [("10.253.201.160", "to-sttl", True), ("10.238.70.143", "to-snva", False)],
    ),
    ("bird", "rip"): (
        "BIRD 2.0.12 ready.\nrip4:\nIP address                Interface  Metric Routes    Seen\n"
        "10.17.37.236              to-ra           1      2   0.074\n",
        [("10.17.37.236", "to-ra", True)],
    ),
    ("bird", "babel"): (
        "BIRD 2.0.12 ready.\nbabel1:\nIP address                Interface  Metric Routes Hellos Expires Auth\n"
        "fe80::7408:f0ff:feea:c91d to-ra          10      4      4   1.411 No  \n",
        [("fe80::7408:f0ff:feea:c91d", "to-ra", True)],
    ),
    ("bird", "bgp"): (
        "bgp_fd00__1 BGP        ---        up     05:30:15.570  Established   \n  BGP state:          Established\n"
        "    Neighbor address: fd00::1%to-b\nbgp_10_0_0_1 BGP        ---        start  05:30:15.570  Connect\n"
        "  BGP state:          Connect\n    Neighbor address: 10.0.0.1\n",
        [("fd00::1", "", True), ("10.0.0.1", "", False)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("daemon", "protocol"), SAID)
def test_adjacencies(daemon: str, protocol: str) -> None:
    said, wanted = SAID[daemon, protocol]
    assert [(a.neighbor, a.dev, a.up) for a in ROUTERS[daemon].adjacencies(protocol, said)] == wanted


@pytest.mark.parametrize(("daemon", "protocol"), PAIRS)
def test_a_daemon_that_is_not_there_has_no_adjacencies(daemon: str, protocol: str) -> None:
    said = {"frr": "Exiting: failed to connect to any daemons.\n", "bird": "Unable to connect to server control socket"}
    assert ROUTERS[daemon].adjacencies(protocol, said[daemon]) == ()
    assert [p for p, _ in ROUTERS[daemon].adjacencies_argv(router(daemon, protocol))] == [protocol]
