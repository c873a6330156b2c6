"""Sends notices: mails to members of slices, webhooks to programs elsewhere.

What waits is in the database, so a central that dies, or a server that is away, loses none; one may come twice.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator

import msgspec

from vini.central import hooks, mailing
from vini.central.mailing import Unsent
from vini.model import Value
from vini.rules import notices as rules
from vini.rules.nouns import Event
from vini.store import events
from vini.store import notices as store
from vini.store.database import Database, Tx
from vini.store.notices import Lane

log = logging.getLogger("vini.central")
_CLAIM_S = 300.0  # whoever claimed some has sent them by then, or has died
_ROUND_S = 100.0  # and begins no other one after that


class Channels(Value, frozen=True):
    """How people and programs are told."""

    mail: rules.Mail | None = None
    webhooks: tuple[rules.Webhook, ...] = ()
    url: str = ""  # the central's, for mails

    @property
    def lanes(self) -> list[Lane]:
        """One for all mails, one for each webhook: what is stuck in one holds up no other."""
        return [Lane("mail")] * bool(self.mail) + [Lane("webhook", url) for url in {h.url: h for h in self.webhooks}]

    @property
    def digest(self) -> str:
        """By which another central sees whether it tells the same people of the same; secrets are not in it."""
        mail = [self.mail.server, self.mail.sender, *sorted(self.mail.what)] if self.mail else []
        hooks = sorted([hook.url, *sorted(hook.what)] for hook in self.webhooks)
        return hashlib.sha256(msgspec.json.encode([mail, hooks])).hexdigest()


class Notifier:
    """Looks from time to time what is to be told, and tells it."""

    def __init__(self, database: Database, channels: Channels, clock: Callable[[], float] = time.time):
        self._database, self._channels, self._clock = database, channels, clock

    def step(self) -> int:
        """Queue what is new, and send what is due; how many were sent.  Waits for servers, so call it in a thread."""
        if not self._channels.lanes:
            return 0
        with self._database.transaction() as tx:
            lost = store.queue(tx, self._clock(), lambda event: list(self._addresses(tx, event)))
        for lane, number in lost.items():
            log.warning("%d notices were dropped: %d others wait for %s already", number, store.MOST, lane)
        return sum(self._round(lane) for lane in self._channels.lanes)

    def last_words(self, tx: Tx, number: int, what: str, members: list[str]) -> None:
        """Have those told of that event who were members of the slice, which is no more when others are told of it."""
        mail = self._channels.mail
        if mail is not None and rules.is_chosen(what, mail.what):
            store.add(tx, [(number, "mail", email) for email in members], self._clock())

    def _addresses(self, tx: Tx, event: Event) -> Iterator[tuple[str, str]]:
        mail = self._channels.mail
        # Who was in a slice that expired has his last words already; another may have its name by now.
        if (
            mail is not None
            and event.kind == "slice"
            and event.what != rules.EXPIRE
            and rules.concerns(event, mail.what)
        ):
            yield from (("mail", email) for email in store.members(tx, event.target))
        yield from (("webhook", url) for url in {h.url: h for h in self._hooks(event)})

    def _hooks(self, event: Event) -> list[rules.Webhook]:
        return [hook for hook in self._channels.webhooks if rules.concerns(event, hook.what)]

    def _round(self, lane: Lane) -> int:
        """One after another, until one fails for a reason that the others would fail for too; how many were sent."""
        now, began = self._clock(), time.monotonic()
        with self._database.transaction() as tx:
            waiting = store.claim(tx, lane, now, now + _CLAIM_S, now + _CLAIM_S + rules.LONGEST_S)
        sent = 0
        for place, notice in enumerate(waiting):
            try:
                self._send(notice)
                sent += 1
            except Unsent as e:
                self._failed(notice, e)
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
        for hook in self._hooks(event) if channel == "webhook" else ():
            if hook.url == address:
                hooks.post(hook, event, self._clock())

    def _put_back(self, untried: list[store.Waiting], wait_s: float) -> None:
        if untried:
            with self._database.transaction() as tx:
                store.put_back(tx, [notice.id for notice in untried], self._clock() + wait_s)

    def _failed(self, notice: store.Waiting, error: Unsent) -> None:
        now = self._clock()
        log.warning("%s to %s was not delivered (try %d): %s", notice.channel, _shown(notice), notice.tries, error)
        age = now - notice.event.at if notice.event else 0.0
        with self._database.transaction() as tx:
            if not (error.for_good or rules.is_hopeless(notice.tries, age)):
                store.again(tx, notice.id, now + rules.pause(notice.tries))
                return
            store.done(tx, notice.id)
            tried = f"{notice.tries} tries" if notice.tries > 1 else "one try"
            events.add(
                tx, at=now, who="central", what="notify", kind=notice.channel, target=_shown(notice),
                result="ViniError", detail=f"given up after {tried}: {error}",
            )  # fmt: skip


def _shown(notice: store.Waiting) -> str:
    return rules.shown(notice.address) if notice.channel == "webhook" else notice.address
