"""Sends notices: mails to members of slices, webhooks to programs elsewhere.

What waits is in the database, so a central that dies, or a server that is away, loses none; one may come twice.  Of
several centrals on it each tells what its settings say; what more than one may tell, one of them does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

from vini.central import hooks, mailing
from vini.central.mailing import Unsent
from vini.model import Value
from vini.rules import notices as rules
from vini.rules.nouns import Event
from vini.store import events, last_members
from vini.store import notices as store
from vini.store.database import Database, Tx
from vini.store.database import clock as clock_of_database
from vini.store.notices import Lane, Topic

log = logging.getLogger("vini.central")
_CLAIM_S = 300.0  # whoever claimed some has sent them by then, or has died
_ROUND_S = 100.0  # and begins no other one after that


class Channels(Value, frozen=True):
    """How people and programs are told."""

    mail: rules.Mail | None = None
    webhooks: tuple[rules.Webhook, ...] = ()
    url: str = ""  # the central's, for mails

    @property
    def lanes(self) -> dict[Lane, tuple[str, ...]]:
        """One for all mails, one for each webhook, with what it tells of: what is stuck in one holds up no other."""
        found = {Lane("mail"): self.mail.what} if self.mail else {}
        for hook in self.webhooks:
            lane = Lane("webhook", hook.url)
            found[lane] = (*found.get(lane, ()), *hook.what)
        return found

    def hooks(self, url: str, event: Event) -> list[rules.Webhook]:
        """Those with that URL that tell of it; where another central asked for that, what we have."""
        known = [hook for hook in self.webhooks if hook.url == url]
        return [hook for hook in known if rules.chosen_by(event, hook.what)] or known[:1]


class Notifier:
    """Looks from time to time what is to be told, and tells it.  When that is due the database's clock says (`now`): a
    central whose own is wrong would take what another one is sending.  How old it is says the earlier of that and the
    central's `clock`, by which events have their times: nobody asks nodes about the database's."""

    def __init__(
        self, database: Database, channels: Channels, clock: Callable[[], float] = time.time,
        now: Callable[[Tx], float] = clock_of_database,
    ):  # fmt: skip
        self._database, self._channels, self._clock, self._now = database, channels, clock, now

    def step(self, sure: bool = True) -> int:
        """Queue what is new, and send what is due; how many were sent.  Waits for servers, so call it in a thread.

        While it is not `sure` what time it is, nothing is given up or passed over for its age.
        """
        lanes = self._channels.lanes
        if not lanes:
            return 0
        topics = [Topic(lane, pattern) for lane, what in lanes.items() for pattern in sorted(set(what))]
        with self._database.looking() as tx:
            behind = store.behind(tx, topics)
        if behind:
            self._queue(behind, lanes, sure)
        return sum(self._round(lane, sure) for lane in lanes)

    def _queue(self, topics: Collection[Topic], lanes: Mapping[Lane, Collection[str]], sure: bool) -> None:
        with self._database.transaction() as tx:

            def of(topic: Topic, event: Event) -> list[str]:
                is_ours = rules.chosen_by(event, lanes[topic.lane]) == topic.pattern
                return _addresses(tx, topic.lane, event) if is_ours else []

            lost = store.queue(tx, topics, self._now(tx), self._at_least(tx), of, sure)
        for lane, number in lost.items():
            log.warning("%d notices were dropped: %d others wait for %s already", number, store.MOST, lane)

    def _at_least(self, tx: Tx) -> float:
        return min(self._now(tx), self._clock())

    def _round(self, lane: Lane, sure: bool) -> int:
        """One after another, until one fails for a reason that the others would fail for too; how many were sent."""
        began = time.monotonic()
        with self._database.transaction() as tx:
            now = self._now(tx)
            waiting = store.claim(tx, lane, now, now + _CLAIM_S, now + _CLAIM_S + rules.LONGEST_S)
        sent = 0
        for place, notice in enumerate(waiting):
            try:
                self._send(notice)
                sent += 1
            except Unsent as e:
                self._failed(notice, e, sure)
                if not e.alone:
                    self._put_back(waiting[place + 1 :], rules.FIRST_S)
                    break
            if time.monotonic() - began > _ROUND_S:
                self._put_back(waiting[place + 1 :], 0.0)
                break
        return sent

    def _send(self, notice: store.Waiting) -> None:
        """Raises Unsent."""
        if notice.event is not None:
            self._tell(notice.channel, notice.address, notice.event)
        with self._database.transaction() as tx:
            store.done(tx, notice.id)

    def _tell(self, channel: str, address: str, event: Event) -> None:
        if channel == "mail" and self._channels.mail is not None:
            mailing.send(self._channels.mail, address, event, self._channels.url)
        for hook in self._channels.hooks(address, event) if channel == "webhook" else ():
            hooks.post(hook, event, self._clock())

    def _put_back(self, untried: list[store.Waiting], wait_s: float) -> None:
        if untried:
            with self._database.transaction() as tx:
                store.put_back(tx, [notice.id for notice in untried], self._now(tx) + wait_s)

    def _failed(self, notice: store.Waiting, error: Unsent, sure: bool) -> None:
        log.warning("%s to %s was not delivered (try %d): %s", notice.channel, _shown(notice), notice.tries, error)
        with self._database.transaction() as tx:
            now = self._now(tx)
            age = self._at_least(tx) - notice.event.at if notice.event else 0.0
            if not (error.for_good or (sure and rules.is_hopeless(notice.tries, age))):
                store.again(tx, notice.id, now + rules.pause(notice.tries))
                return
            store.done(tx, notice.id)
            tried = f"{notice.tries} tries" if notice.tries > 1 else "one try"
            events.add(
                tx, at=self._clock(), who="central", what="notify", kind=notice.channel, target=_shown(notice),
                result="ViniError", detail=f"given up after {tried}: {error}",
            )  # fmt: skip


def _addresses(tx: Tx, lane: Lane, event: Event) -> list[str]:
    """Who in that lane is told of it."""
    if lane.address:
        return [lane.address]
    if event.kind != "slice":
        return []
    # Another slice may have the name by now of one that has ended.
    return last_members.of(tx, event.id) if event.what == rules.EXPIRE else store.members(tx, event.target)


def _shown(notice: store.Waiting) -> str:
    return rules.shown(notice.address) if notice.channel == "webhook" else notice.address
