"""What is told of each request of a batch, of which the kernel acknowledges only the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EEXIST, ENODEV, ERANGE

import pytest
from own_place import OwnPlace

from vini.node import netns, rtnl, rtnl_addresses
from vini.node.netlink import Socket
from vini.node.pins import Pins

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
RIGHT = [rtnl_addresses.add_address(1, f"192.0.2.{i}/32") for i in range(1, 4)]
WRONG = rtnl_addresses.add_address(4711, "192.0.2.9/32")


@pytest.fixture
def inside(own: OwnPlace) -> Iterator[Socket]:
    """A socket in a new namespace."""
    pins = Pins(own.place)
    pins.prepare(["v.a"])
    with netns.back_home():
        pins.make("v.a")
        with Socket() as socket:
            yield socket
    pins.remove(["v.a"])


def addresses(socket: Socket) -> set[str]:
    return {address.cidr for address in rtnl_addresses.addresses(socket)}


@pytest.mark.parametrize("at", range(4))
def test_one_that_is_refused_is_told_and_the_others_are_done(inside, at):
    batch = [*RIGHT[:at], WRONG, *RIGHT[at:]]
    assert inside.transact(batch) == [ENODEV if request is WRONG else 0 for request in batch]
    assert addresses(inside) == {"192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"}


def test_each_refusal_has_its_own_cause(inside):
    again = rtnl_addresses.add_address(1, "192.0.2.1/32", only_new=True)
    unknown = rtnl.set_link("nowhere", mtu=1500, up=True, alias="")
    too_long = rtnl.set_link("lo", mtu=65536, up=True, alias="a" * 300)
    assert inside.transact([RIGHT[0], again, unknown, too_long, RIGHT[1]]) == [0, EEXIST, ENODEV, ERANGE, 0]


def test_none_and_many(inside):
    assert inside.transact([]) == []
    assert inside.transact([WRONG, RIGHT[0]] * 500) == [ENODEV, 0] * 500
