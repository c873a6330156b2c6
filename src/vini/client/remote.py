"""The slices of a testbed: a central over HTTP (docs/reference/rest-api.md)."""

from __future__ import annotations

import asyncio
import re
import shlex
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import msgspec
from msgspec.structs import asdict

from vini import bus
from vini.client import login as logins
from vini.client.login import Login
from vini.client.slices import Event, OnProgress, Say, Slices, SshPlace
from vini.client.times import Ahead, NodeClock, measured
from vini.model import (
    CapacityError,
    Conflict,
    Denied,
    DriverError,
    Link,
    Mistake,
    NotFound,
    OutsideGrant,
    SliverStatus,
    Stale,
    Topology,
    TopologyError,
    Unsupported,
    Value,
    ViniError,
)
from vini.node.reached import unreachable as disbelief
from vini.reach import FibEntry
from vini.rules.errors import Invalid, Unauthenticated
from vini.rules.grants import TAG
from vini.rules.nouns import Holder, Slice, Tag, UsageRow
from vini.rules.usage import UsageAsked
from vini.rules.wishes import Page

if TYPE_CHECKING:
    from vini.store import Head, Verdict
    from vini.truth import Check

T = TypeVar("T")
Query = dict[str, str | float | None]
_PATIENCE_S = 60.0  # for an answer; a change waits that long for its nodes
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_OTHER_AUTHORITY = (18, 19, 20, 21)  # verification codes of OpenSSL
_TRIES = 20  # of an edit that others overtake
_ERRORS: dict[str, type[ViniError]] = {
    e.__name__: e for e in (CapacityError, Conflict, Denied, DriverError, Invalid, NotFound, Stale, Unsupported)
}


class Asked(Value, frozen=True):
    """A slice's desired state, and which one it is."""

    generation: int
    topology: Topology


class Seen(Value, frozen=True):
    """How the slivers of a slice are; and of which nodes only an older report is known, with the reason."""

    slivers: tuple[SliverStatus, ...]
    away: dict[str, str] = {}


class Told(Value, frozen=True):
    """The one shape of all errors of a central."""

    error: str
    sentence: str
    mistakes: tuple[Mistake, ...] = ()


class RemoteClient(Slices):
    """Talks to a central as one person.  Requests that changed nothing may be repeated, and are."""

    def __init__(self, login: Login, say: Say = lambda _: None, transport: httpx.BaseTransport | None = None):
        super().__init__(say)
        self._central: Ahead | None = None
        self._login = login
        self._http = httpx.Client(
            base_url=f"{login.url}/v1",
            headers={"Authorization": f"Bearer {login.token}"} if login.token else {},
            verify=trusted(login.ca),
            timeout=httpx.Timeout(10.0, read=_PATIENCE_S + 30),
            transport=transport,
        )

    def call(self, method: str, path: str, type_: type[T], body: object = None, **query: str | float | None) -> T:
        """The answer to a request.  Raises the error that the central refused with."""
        return self._call(method, path, type_, body, {}, query)

    def _call(self, method: str, path: str, type_: type[T], body: object, headers: dict[str, str], query: Query) -> T:
        content = None if body is None else msgspec.json.encode(body)
        params = {k: v for k, v in query.items() if v is not None}
        try:
            answer = self._http.request(
                method, path, content=content, params=params, headers={"Content-Type": "application/json", **headers}
            )
        except httpx.HTTPError as e:
            raise unreachable(self._login.url, e) from e
        if answer.is_error:
            raise refusal(answer.status_code, answer.content)
        try:
            return msgspec.json.decode(answer.content or b"null", type=type_)
        except msgspec.DecodeError as e:
            raise ViniError(
                f"The central {self._login.url} answers {method} {path} with what this version doesn't understand "
                f"({e}); it runs another version of VINI."
            ) from e

    def pages(self, path: str, type_: type[Any], **query: str | float | None) -> list[Any]:
        """All items of a list that comes in pages."""
        items: list[Any] = []
        cursor = ""
        while True:
            page = self.call("GET", path, type_, cursor=cursor or None, limit=1000, **query)
            items += page.items
            cursor = page.next
            if not cursor:
                return items

    @property
    def login(self) -> Login:
        """Which central, and as whom."""
        return self._login

    async def _ask(self, method: str, path: str, type_: type[T], body: object = None, **query: str | float | None) -> T:
        return await asyncio.to_thread(lambda: self.call(method, path, type_, body, **query))

    lead_s = 1.0  # the way to a node takes milliseconds, a busy one makes a pass of some hundred before it listens

    # --- what is asked for --------------------------------------------------------------------

    def topologies(self) -> dict[str, Topology]:
        """All slices that this caller may see and that are up."""
        return self.call("GET", "/topologies", dict[str, Topology])

    def own(self) -> list[str]:
        """Of those that are up the ones that this person is a member of: an admin sees everybody's."""
        mine = {row.name for row in self.pages("/slices", Page[Slice], member=self._login.email)}
        return [name for name in self.topologies() if name in mine]

    def asked(self, slice_: str) -> Topology:
        """The desired state of a slice as it is now."""
        return self._asked(slice_).topology

    def _asked(self, slice_: str) -> Asked:
        return self.call("GET", f"/slices/{slice_}/topology", Asked)

    def unreadable(self) -> list[str]:
        """None: it is the central that reads what is stored."""
        return []

    def events(self, slice_: str, limit: int = 50) -> list[Event]:
        """What was asked of a slice; the newest first."""
        return self.call("GET", f"/slices/{slice_}/log", list[Event], limit=limit)

    def check_events(self, once: Head | None = None) -> Verdict:  # noqa: ARG002
        """They are in the central's database, and whoever asks the central has to believe it."""
        raise Unsupported(
            "The events of a testbed are checked where its central runs, by who runs it: `vini central audit`."
        )

    # --- desired states -----------------------------------------------------------------------

    async def put(self, topology: Topology, what: str = "put", progress: OnProgress = None) -> bus.Report:  # noqa: ARG002
        """Store a new desired state, and wait until its nodes have made one pass towards it."""
        return await asyncio.to_thread(self._put, topology, what, None, 0.0)

    def _put(self, topology: Topology, what: str, after: int | None, at: float) -> bus.Report:
        headers = {} if after is None else {"If-Match": f'"{after}"'}
        path = f"/slices/{topology.name}/topology"
        query: Query = {"what": what, "wait_s": _PATIENCE_S}
        if at:
            there = at + self.central().ahead_s
            query = {"what": what, "at": there, "wait_s": min(_PATIENCE_S, max(0.0, at - time.time()))}
        return self._call("PUT", path, bus.Report, topology, headers, query)

    async def edit(
        self, slice_: str, change: Callable[[Topology], Topology], what: str = "edit", at: float = 0.0
    ) -> bus.Report:
        """Change what is asked of a slice now; where somebody was faster, on top of his change."""
        for attempt in range(_TRIES):
            now = await asyncio.to_thread(self._asked, slice_)
            try:
                return await asyncio.to_thread(self._put, change(now.topology), what, now.generation, at)
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def granted(self, slice_: str) -> OutsideGrant | None:
        """What a slice may do in the world; None: nothing."""
        self.call("GET", f"/slices/{slice_}", Any)  # one that is not there is told of as such
        try:
            return self.call("GET", f"/slices/{slice_}/outside", OutsideGrant)
        except NotFound:
            return None

    async def grant_outside(self, slice_: str, grant: OutsideGrant | None) -> None:
        """From now on a slice may do that in the world; None: nothing.  Only an admin may say so."""
        method = "DELETE" if grant is None else "PUT"
        await self._ask(method, f"/slices/{slice_}/outside", Any, grant)

    async def who(self, question: bus.AskFlows) -> dict[str, bus.Flows]:
        """Of all nodes that are connected.  Only an admin may ask."""
        return await self._ask("POST", "/flows", dict[str, bus.Flows], question)

    async def used(self, asked: UsageAsked) -> list[UsageRow]:
        """Of what this caller may see."""
        query = {k: v for k, v in asdict(asked).items() if v != ""} | {"daily": "true" if asked.daily else None}
        return await asyncio.to_thread(lambda: self.pages("/usage", Page[UsageRow], **query))

    async def down(self, slice_: str, progress: OnProgress = None) -> bus.Report:
        """Ask for the empty desired state."""
        return await self.put(Topology(slice_), "down", progress)

    async def foresee(self, topology: Topology) -> tuple[str, ...]:
        """What `put` would change, step by step, on each node; nothing is touched."""
        return await self._ask("POST", f"/slices/{topology.name}/plan", tuple[str, ...], topology)

    # --- observed states ----------------------------------------------------------------------

    async def status(self, slice_: str) -> list[SliverStatus]:
        """One row per sliver: a fresh look, or where a node is away, that."""
        seen = await self._ask("GET", f"/slices/{slice_}/status", Seen)
        return list(seen.slivers)

    async def fib_entries(self, slice_: str) -> dict[str, tuple[FibEntry, ...]]:
        """Sliver -> its main forwarding table, both IP versions."""
        return await self._ask("GET", f"/slices/{slice_}/fibs", dict[str, tuple[FibEntry, ...]])

    async def loads(self, slice_: str) -> dict[str, bus.SliverLoad]:
        """Sliver -> what it does to its node; without those whose node is away."""
        return await self._ask("GET", f"/slices/{slice_}/loads", dict[str, bus.SliverLoad])

    async def departures(self, slice_: str) -> Mapping[str, tuple[int, int]] | None:
        """As the nodes' link elements count; None where one of them has the kernel's netem instead."""
        if "netem" in (await asyncio.to_thread(self.backends, slice_)).values():
            return None
        loads = await self.loads(slice_)
        return {f"{sliver}:{dev}": n for sliver, load in loads.items() for dev, n in load.departed.items()}

    def backends(self, slice_: str) -> dict[str, str]:
        """`sliver:vif` -> who shapes what leaves by it; without those that nobody does."""
        return {vif: b for holder in self._holders(slice_).values() for vif, b in holder.backends.items()}

    def underlay_ms(self, slice_: str) -> dict[str, float]:
        """Link -> of its delay, what the network between its nodes takes, one way; of those where that is known."""
        return {link: ms for holder in self._holders(slice_).values() for link, ms in holder.underlay_ms.items()}

    def _holders(self, slice_: str) -> dict[str, Holder]:
        return self.call("GET", f"/slices/{slice_}/nodes", dict[str, Holder])

    async def clocks(self, slice_: str) -> dict[str, NodeClock]:
        """The nodes of a slice, and how their clocks go."""

        def look() -> dict[str, NodeClock]:
            central = self.central(afresh=True)
            found = self._holders(slice_)
            return {n: NodeClock(h.slivers, central.plus(h.clock_offset_s, h.clock_error_s)) for n, h in found.items()}

        return await asyncio.to_thread(look)

    def central(self, afresh: bool = False) -> Ahead:
        """The central's, measured when it is first needed, and when its user measures clocks."""
        if self._central is None or afresh:
            self._central = measured(lambda: self.call("GET", "/clock", bus.Clock))
        return self._central

    async def acts(self, slice_: str, after: int = 0) -> dict[str, tuple[bus.Act, ...]]:
        """Node -> when it put generations above `after` in force; without those that are away."""
        path, type_ = f"/slices/{slice_}/acts", dict[str, tuple[bus.Act, ...]]
        try:
            return await self._ask("GET", path, type_, after=after, linked="true")
        except Invalid:  # a central of the version before knows no `linked`
            return await self._ask("GET", path, type_, after=after)

    async def maps(self, slice_: str, sliver: str, names: Sequence[str] | None = None) -> bus.Maps:
        """What the maps of a sliver's program hold; these ones, or all."""
        only = None if names is None else ",".join(names)
        return await self._ask("GET", f"/slices/{slice_}/slivers/{sliver}/maps", bus.Maps, only=only)

    async def write_row(self, slice_: str, sliver: str, table: str, key: bytes, value: bytes | None) -> None:
        """Set a row of a map of a sliver's program, or with None take it out."""
        row = {"key": key.hex(), "value": None if value is None else value.hex()}
        await self._ask("PUT", f"/slices/{slice_}/slivers/{sliver}/maps/{table}", Any, row)

    async def check_links(
        self, topology: Topology, links: Sequence[Link], load: float = 0.0, for_s: float = 0.0
    ) -> Check:
        """Measure what these links give, between nodes too; as on one machine, but for the tolerance there."""
        from vini.client.measuring import check_links

        holders = await asyncio.to_thread(self._holders, topology.name)
        return await check_links(self, topology, links, holders, load, for_s, self._say)

    def capabilities(self) -> frozenset[str]:
        """Not known here: each node has its own."""
        return frozenset()

    def logs(
        self, slice_: str, sliver: str, lines: int, follow: bool, processes: Sequence[str] = (), boot: bool = False
    ) -> list[str]:
        """The command line that prints what the sliver's processes said last, and with `follow` what they say."""
        words = ("logs", str(lines), str(int(follow)), str(int(boot)), *processes)
        return [sys.executable, "-m", "vini.client.inside", slice_, sliver, *words]

    async def ssh(self, slice_: str) -> list[SshPlace]:
        """How to log in to its slivers, of nodes that are connected at this moment."""
        found = await self._ask("GET", f"/slices/{slice_}/ssh", list[SshPlace])
        central = httpx.URL(self.login.url).host  # another testbed may have a node of the same name
        return [msgspec.structs.replace(p, alias=f"{p.node}.{central}") for p in found]

    def grants(self, slice_: str) -> tuple[str, ...]:
        """As the testbed's admins said of the whole slice; on one node, or in a nodegroup, they may have said else."""
        return tuple(word for tag in self._grants(slice_) for word in tag.value.replace(",", " ").split())

    def _grants(self, slice_: str) -> list[Tag]:
        found = self.pages("/tags", Page[Tag], name=TAG, slice=slice_)
        return [tag for tag in found if tag.slice == slice_ and not tag.node and not tag.nodegroup]

    def grant(self, slice_: str, words: Sequence[str]) -> None:
        """Its nodes are told within seconds."""
        if words:
            self.call("POST", "/tags", Tag, {"name": TAG, "value": ",".join(words), "slice": slice_})
        else:
            for tag in self._grants(slice_):
                self.call("DELETE", f"/tags/{tag.id}", type(None))

    def ssh_through(self, slice_: str, sliver: str) -> list[str]:
        """With the same login, wherever ssh(1) is called."""
        login = f"VINI_LOGIN={logins.path().absolute()}"
        return ["env", login, sys.executable, "-m", "vini.client.inside", slice_, sliver, "ssh"]

    # --- inside slivers -----------------------------------------------------------------------

    def enter(self, slice_: str, sliver: str, argv: Sequence[str]) -> list[str]:
        """A program of ours that runs `argv` in the sliver, wherever that is, and is to its caller as that would be."""
        return [sys.executable, "-m", "vini.client.inside", slice_, sliver, "--", *argv]

    async def output(self, slice_: str, sliver: str, argv: Sequence[str]) -> tuple[int, str]:
        """Exit code and standard output of a command inside a sliver; `{run}` in its words stands for its directory."""
        from vini.client import commands

        if any("{run}" in word for word in argv):  # a word with braces is quoted, and the name stands outside of it
            argv = ("sh", "-c", "exec " + shlex.join(argv).replace("{run}", "'\"$VINI_SLIVER_DIR\"'"))
        return await commands.output(self._login, slice_, sliver, argv)

    def script(self, file: Path) -> list[str]:
        """By its text: the node may have it elsewhere, and another Python."""
        return ["python3", "-I", "-c", file.read_text()]


def trusted(ca: str) -> ssl.SSLContext | bool:
    """Whom to believe that he is the central: its own authority, else those of this machine."""
    return ssl.create_default_context(cadata=ca) if ca else True


def unreachable(url: str, error: Exception, *, logged_in: bool = True) -> ViniError:
    """What to say when no answer came, or none that is to be believed."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None and cause.verify_code in _OTHER_AUTHORITY:
        return ViniError(
            f"What answers at {url} is not believed: it is not the central that you logged in to, its certificate is "
            f"of another authority. If that was made anew: `vini logout`, then `vini login {url}`."
        )
    if cause is not None:
        return ViniError(f"What answers at {url} is not believed: {disbelief(cause)}")
    why = _ERRNO.sub("", str(error)) or type(error).__name__
    if not logged_in:
        which = "" if httpx.URL(url).port else f" A central's port is 8443 where nobody said otherwise: {url}:8443."
        return ViniError(
            f"No central answers at {url} ({why}); is it running there (`vini central run`), and are the address and "
            f"the port right?{which}"
        )
    return ViniError(
        f"The central {url} doesn't answer ({why}). Slices run on without it; try again, or look at the network. "
        "`vini logout` brings commands back to this machine."
    )


def refusal(status: int, body: bytes) -> ViniError:
    """The error in an answer."""
    try:
        told = msgspec.json.decode(body, type=Told)
    except msgspec.DecodeError:
        return ViniError(f"The answer is no central's (HTTP status {status}); is the URL right? `vini login URL`.")
    if status == 401:
        return Unauthenticated(told.sentence)
    if told.mistakes:
        return TopologyError(told.mistakes)
    return _ERRORS.get(told.error, ViniError)(told.sentence)
