"""Slivers' vifs to the world, and the rules at the node's end of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256

from msgspec import structs

from vini.model import AnyObject, DriverError, Outside, ViniError
from vini.node.drivers import Failures
from vini.node.drivers.share import ShareDriver
from vini.node.outside import forwarding, near, nft, pair, record, rules
from vini.node.outside.record import Attached, Record
from vini.node.place import Place

_DAY_S = 86400


class OutsideDriver:
    """Looks at the rules only when the kernel says that some have changed."""

    kinds = (Outside,)

    def __init__(self, place: Place):
        self._place = place
        self._seen: dict[str, int] = {}  # slice -> the generation of the kernel's rules in which its own were right
        self._guarded: dict[int, int] = {}  # IP version -> likewise, of the rule for the whole node

    # --- observe ------------------------------------------------------------------------------

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there, of those namespaces; of a sliver that is gone what the node still has for it."""
        out: set[AnyObject] = set()
        among = {ns.partition(".")[0] for ns in namespaces}
        if concerned := [slice_ for slice_ in record.slices(self._place) if slice_ in among]:
            here = pair.seen()
            for slice_ in concerned:
                out |= self._observed(slice_, namespaces, here)
        for ns in (pair.strays(self._place.mark) & set(namespaces)) - {o.slivers[0] for o in out}:
            out.add(pair.remnant(ns))  # nothing is written down of it any more
        return frozenset(out)

    def _observed(self, slice_: str, namespaces: Collection[str], here: Mapping[str, pair.Seen]) -> set[AnyObject]:
        kept = self._today(slice_, record.read(self._place, slice_))
        families = [forwarding.FAMILIES[v] for v in sorted({4} | _versions(kept))]
        good = self._rules_are_right(slice_, kept) and all(map(self._forwards, families))
        good = good and kept.near == _near(kept)
        out: set[AnyObject] = set()
        for ns, vif in kept.vifs.items():
            if ns in namespaces:
                dev = rules.dev_name(self._place.mark, ns)
                whole = pair.is_whole(vif, self._place.pin(ns), dev, here.get(dev))
                out.add(structs.replace(vif.object, whole=good and whole is True))
        return out

    def _rules_are_right(self, slice_: str, kept: Record) -> bool:
        now = nft.generation()
        if now and self._seen.get(slice_) == now:
            return True
        try:
            right = kept.printed and nft.printed(rules.table_name(self._place.mark, slice_)) == kept.printed
        except DriverError:  # nft is gone: `ensure` tells so; a look that failed would end the agent
            right = False
        if not right:
            return False
        self._seen[slice_] = now
        return True

    def _forwards(self, family: forwarding.Family) -> bool:
        if not forwarding.is_set(self._place, family):
            return False
        now = nft.generation()
        if now and self._guarded.get(family.version) == now:
            return True
        try:
            right = forwarding.is_guarded(self._place, family)
        except DriverError:
            right = False
        if right:
            self._guarded[family.version] = now
        return right

    def _today(self, slice_: str, kept: Record) -> Record:
        """A new day of UTC begins with all of its bytes."""
        today = int(time.time()) // _DAY_S
        if kept.day == today or not kept.vifs:
            return kept
        with suppress(DriverError):  # without nft no rules are right, and `ensure` begins the day
            nft.new_day(rules.table_name(self._place.mark, slice_))
        kept = structs.replace(kept, day=today)
        record.write(self._place, slice_, kept)
        return kept

    # --- change -------------------------------------------------------------------------------

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change them; of each slice all rules at one moment."""
        failures: Failures = {}
        taken = pair.taken()
        for slice_, own in _by_slice(objects):
            try:
                kept = record.read(self._place, slice_)
                for o in own:
                    vif = self._chosen(kept, o, taken)
                    taken.add(vif.gateway)
                    kept = record.with_vif(kept, vif)
                told = self._apply(slice_, kept)
            except (ViniError, OSError) as e:
                told = dict.fromkeys((o.ns for o in own), str(e))
            failures.update((o.key, _sentence(told[o.ns])) for o in own if o.ns in told)
        return failures

    def _chosen(self, kept: Record, o: Outside, taken: set[str]) -> Attached:
        if o.ns in kept.vifs:  # it keeps its address
            return structs.replace(kept.vifs[o.ns], object=o)
        return pair.chosen(o, self._place.mark, taken | {v.gateway for v in kept.vifs.values()})

    def _apply(self, slice_: str, kept: Record) -> dict[str, str]:
        """Namespace -> why it has no way to the world.

        No packet passes without the rules: a new pair is down until they stand, old rules are replaced at one moment,
        and a pair that can't be put right, for which there are none, goes: the next look makes a new one.
        """
        name = rules.table_name(self._place.mark, slice_)
        today = int(time.time()) // _DAY_S
        used = nft.used(name) if kept.day == today else 0
        loaded, kept = kept, structs.replace(kept, printed="", text="", day=today)
        record.write(self._place, slice_, kept)
        failed: dict[str, str] = {}
        here, new = pair.seen(), False
        for ns, vif in kept.vifs.items():
            dev = rules.dev_name(self._place.mark, ns)
            try:
                new |= pair.make(vif, self._place.pin(ns), self._place.mark, here.get(dev))
            except (ViniError, OSError) as e:
                failed[ns] = str(e)
                pair.remove(dev)
        able = {ns: vif for ns, vif in kept.vifs.items() if ns not in failed}
        if able:
            networks = _near(kept)
            text = self._load(slice_, able, used, networks, loaded, new)
            closed = self._forward(slice_, _versions(kept) | {4})
            if 4 in closed:
                raise DriverError(closed[4])
            failed |= {ns: why for why in closed.values() for ns in able}  # of IPv6; by IPv4 they have their way
            ShareDriver(self._place).learn()  # before anything comes by them, what each may send is known
            for vif in able.values():
                pair.raise_(vif, self._place.mark)
            record.write(
                self._place, slice_, structs.replace(kept, printed=nft.printed(name), text=text, near=networks)
            )
        self._seen.pop(slice_, None)
        return failed

    def _forward(self, slice_: str, versions: Collection[int]) -> dict[int, str]:
        """What this slice is granted, and what others are; no other version any more.  Of its own versions those that
        the node can't forward, and why; those of others are theirs to tell."""
        others = set(record.slices(self._place)) - {slice_}
        needed = {4}.union(versions, *(_versions(record.read(self._place, other)) for other in others))
        closed: dict[int, str] = {}
        for version, family in forwarding.FAMILIES.items():
            if version not in needed:
                forwarding.switch_off(self._place, family)
                continue
            try:
                forwarding.switch_on(self._place, family)
            except DriverError as e:
                closed[version] = str(e)
        return {version: why for version, why in closed.items() if version in versions}

    def _load(
        self, slice_: str, vifs: Mapping[str, Attached], used: int, networks: Iterable[str], before: Record, new: bool
    ) -> str:
        """Its rules, and a digest of their text.  Those that are as they should be stay, so that no sliver gets its
        budgets anew by what it does to its own end; but a new pair gets the ones that are bound to it."""
        mark, name = self._place.mark, rules.table_name(self._place.mark, slice_)
        ports = [
            rules.Port(
                ns, rules.dev_name(mark, ns), vif.object.mac, rules.gateway_mac(mark, ns), vif.address, vif.gateway
            )
            for ns, vif in sorted(vifs.items())
        ]
        some = next(iter(vifs.values())).object  # all of a slice have the same
        text = sha256(rules.tables(mark, slice_, ports, some.grant, some.never, 0, networks).encode()).hexdigest()
        if text != before.text or nft.printed_of("inet", name) not in before.printed.split():
            nft.load(rules.tables(mark, slice_, ports, some.grant, some.never, used, networks))
        elif new or nft.printed(name) != before.printed:
            nft.load(rules.entrances(mark, slice_, ports, some.grant, some.never, used))
        return text

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take them away; no error when they are gone."""
        failures: Failures = {}
        for slice_, own in _by_slice(objects):
            kept = record.read(self._place, slice_)
            try:
                for o in own:
                    pair.remove(rules.dev_name(self._place.mark, o.ns))
                    kept = record.without(kept, o.ns)
                self._leave(slice_, kept)
            except (ViniError, OSError) as e:
                why = f"The way to the world can't be taken away: {str(e).rstrip('.')}."
                failures.update((o.key, why) for o in own)
        return failures

    def _leave(self, slice_: str, kept: Record) -> None:
        if kept.vifs:
            self._apply(slice_, kept)
            return
        nft.load(rules.gone(self._place.mark, slice_))
        if not set(record.slices(self._place)) - {slice_}:
            for family in forwarding.FAMILIES.values():
                forwarding.switch_off(self._place, family)
        else:
            self._forward(slice_, ())
        ShareDriver(self._place).learn()  # of interfaces that are gone nothing is known
        record.write(
            self._place, slice_, kept
        )  # last: a kill before it leaves a record by which all this is done again


def _versions(kept: Record) -> frozenset[int]:
    """The IP versions that its slivers are granted."""
    return frozenset(v for vif in kept.vifs.values() for v in vif.object.grant.versions)


def _near(kept: Record) -> tuple[str, ...]:
    """As far as that matters for what they are granted."""
    return near.networks() if 6 in _versions(kept) else ()


def _sentence(why: str) -> str:
    return f"The way to the world can't be made: {why.rstrip('.')}."


def _by_slice(objects: Iterable[AnyObject]) -> list[tuple[str, list[Outside]]]:
    out: dict[str, list[Outside]] = {}
    for o in objects:
        assert isinstance(o, Outside)
        out.setdefault(o.ns.partition(".")[0], []).append(o)
    return list(out.items())
