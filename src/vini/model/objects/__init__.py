"""What a node must hold: the closed list of objects.  Each file has those of one concept."""

from __future__ import annotations

from vini.model.objects.base import Object
from vini.model.objects.bpf import Bpf, Hook
from vini.model.objects.container import Container
from vini.model.objects.process import Halt, Process
from vini.model.objects.shaping import Gate, Shape
from vini.model.objects.space import Netns, Sysctl
from vini.model.objects.storage import Disk, File, Root, Volume
from vini.model.objects.tunnels import Gretap, Vxlan, VxlanXdp
from vini.model.objects.uplink import Outside, Share
from vini.model.objects.veth import Veth
from vini.model.objects.vifs import Address, Bridge, Interface, Route
from vini.model.objects.wireguard import Wireguard

AnyObject = (
    Netns
    | Sysctl
    | Disk
    | Volume
    | Root
    | Veth
    | Wireguard
    | Vxlan
    | VxlanXdp
    | Gretap
    | Share
    | Outside
    | Bridge
    | Interface
    | Address
    | Route
    | Shape
    | Gate
    | File
    | Bpf
    | Hook
    | Container
    | Process
    | Halt
)
Tunnel = Vxlan | VxlanXdp | Gretap  # what a link to another node can be made of
# From the ground up: a kind stands only on kinds to its left (and, for processes, on its own).
STACK: tuple[type[Object], ...] = (
    Netns, Disk, Volume, Sysctl, Share, Veth, Wireguard, Vxlan, VxlanXdp, Gretap, Outside, Bridge, Interface, Address,
    Route,
    File, Shape, Gate, Bpf, Hook, Root, Container, Process, Halt,
)  # fmt: skip
