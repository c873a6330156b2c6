"""Who may do what: one table, and one function that reads it.

An action is "verb noun".  Who may is said by relations between the caller and the target: what role he has at the
target's site, whether he is a member of the slice, whether the target is himself.  An admin may everything.  His token
must have the action's scope besides.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import structs

from vini.model import Denied, NotFound, Value
from vini.rules.caller import Caller, Scope
from vini.rules.nouns import NodeRow, Person, Slice

RELATIONS = {
    "anyone": "anyone with an account",
    "self": "the person himself",
    "member": "a member of the slice",
    "guest": "a guest of the sliver",
    "pi": "a PI of the site",
    "tech": "a technical contact of the site",
    "user": "a user of the site",
    "admin": "an admin",
}


_LISTS = {  # kind -> the command that lists what the caller may see
    "conf file": "vini conffile",
    "initscript": "vini initscript",
    "key": "vini key",
    "lease": "vini lease",
    "node": "vini nodes",
    "nodegroup": "vini nodegroup",
    "person": "vini person",
    "site": "vini sites",
    "slice": "vini slice",
    "substrate link": "vini substrate",
    "tag": "vini tag",
    "token": "vini token",
}


class Rule(NamedTuple):
    """Which relations let a caller do it, and which scope his token needs."""

    scope: Scope
    who: tuple[str, ...]


class Target(Value, frozen=True):
    """What an action is about, as far as the rules must know it."""

    kind: str
    name: str
    sites: frozenset[str] = frozenset()  # where the roles that count are held
    members: frozenset[str] = frozenset()  # e-mail addresses
    person: str = ""  # whose it is
    guests: dict[str, float] = {}  # e-mail address -> until when; 0: for as long as the target lives


def of_slice(row: Slice) -> Target:
    """What counts of a slice: its members, and who is what at its site."""
    guests = {g.email: g.until for g in row.guests}
    return Target("slice", row.name, frozenset({row.site}), frozenset(row.members), guests=guests)


def of_sliver(row: Slice, sliver: str) -> Target:
    """The same of one of its slivers: of the guests those who are let into that."""
    guests = {g.email: g.until for g in row.guests if not g.slivers or sliver in g.slivers}
    return structs.replace(of_slice(row), guests=guests)


def of_site(login_base: str) -> Target:
    """Roles at the site itself."""
    return Target("site", login_base, frozenset({login_base}))


def of_person(person: Person) -> Target:
    """He himself, and who is what at one of his sites; nobody there has a say over an admin."""
    sites = {held.site for held in person.roles}
    return Target("person", person.email, frozenset() if "" in sites else frozenset(sites), person=person.email)


def of_node(row: NodeRow) -> Target:
    """Roles at its site."""
    return Target("node", row.name, frozenset({row.site}))


def _rule(scope: Scope, *who: str) -> Rule:
    return Rule(scope, (*who, "admin"))


ACTIONS: dict[str, Rule] = {
    "see site": _rule("read", "anyone"),
    "add site": _rule("admin"),
    "change site": _rule("write", "pi"),
    "set quota of site": _rule("admin"),
    "delete site": _rule("admin"),
    "see person": _rule("read", "self", "pi", "tech"),
    "add person": _rule("write", "pi"),
    "change person": _rule("write", "self"),
    "enable person": _rule("write", "pi"),
    "delete person": _rule("admin"),
    "grant user": _rule("write", "pi"),
    "grant tech": _rule("write", "pi"),
    "grant pi": _rule("admin"),
    "grant admin": _rule("admin"),
    "see key": _rule("read", "self", "pi", "tech"),
    "add key": _rule("write", "self"),
    "delete key": _rule("write", "self"),
    "blacklist key": _rule("admin"),
    "see node": _rule("read", "anyone"),
    "add node": _rule("write", "pi", "tech"),
    "change node": _rule("write", "pi", "tech"),
    "delete node": _rule("write", "pi", "tech"),
    "tag node": _rule("write", "pi", "tech"),
    "see slice": _rule("read", "member", "guest", "pi", "tech"),
    "create slice": _rule("write", "pi"),
    "change slice": _rule("write", "member", "pi"),
    "use slice": _rule("write", "member", "pi"),
    "enter slice": _rule("write", "member", "guest"),
    "invite to slice": _rule("write", "member", "pi"),
    "renew slice": _rule("write", "member", "pi"),
    "delete slice": _rule("write", "pi"),
    "change members of slice": _rule("write", "pi"),
    "set quota of slice": _rule("admin"),
    "tag slice": _rule("admin"),
    "grant outside to slice": _rule("admin"),
    "lease node": _rule("write", "member", "pi"),
    "end lease": _rule("write", "member", "pi"),
    "see lease": _rule("read", "anyone"),
    "see substrate link": _rule("read", "anyone"),
    "add substrate link": _rule("admin"),
    "change substrate link": _rule("admin"),
    "switch substrate link": _rule("write", "tech"),
    "delete substrate link": _rule("admin"),
    "see nodegroup": _rule("read", "anyone"),
    "change nodegroup": _rule("admin"),
    "see initscript": _rule("read", "anyone"),
    "change initscript": _rule("admin"),
    "see conf file": _rule("read", "tech", "pi"),
    "change conf file": _rule("admin"),
    "see flows": _rule("admin"),
    "see usage": _rule("read", "anyone"),
    "see event": _rule("read", "anyone"),
    "see token": _rule("read", "self"),
    "add token": _rule("write", "self"),
    "delete token": _rule("write", "self"),
}


def allows(caller: Caller, action: str, target: Target) -> bool:
    """Whether the rules let him; an action that the table doesn't name is nobody's."""
    rule = ACTIONS.get(action)
    return rule is not None and rule.scope in caller.scopes and any(_is(caller, who, target) for who in rule.who)


def may(caller: Caller, action: str, target: Target) -> None:
    """Raises Denied, saying who may."""
    if allows(caller, action, target):
        return
    rule = ACTIONS.get(action)
    if rule is None:
        raise Denied(f"Nobody may {action}.")
    allowed = [RELATIONS[who] for who in rule.who]
    if any(_is(caller, who, target) for who in rule.who):
        raise Denied(f"This token lacks the scope {rule.scope!r}, which `{action}` needs; make one that has it.")
    who = allowed[0] if len(allowed) == 1 else f"{', '.join(allowed[:-1])} or {allowed[-1]}"
    raise Denied(f"{caller.email} may not {_sentence(action, target)}; {who} may.")


def may_at_all_sites(caller: Caller, action: str, person: Person, verb: str) -> None:
    """The same for who is PI of all sites of a person: whoever makes him a user of his own, too, is none of the
    others.  The verb says what he wants, such as disable."""
    may(caller, action, of_person(person))
    others = sorted({held.site for held in person.roles} - caller.sites("pi"))
    if others and not caller.is_admin:
        raise Denied(
            f"{caller.email} may not {verb} {person.email!r}, who also has a role at "
            f"{', '.join(others)}; an admin may, or a PI of all of his sites."
        )


def may_begin(caller: Caller, person: Person) -> None:
    """Raises Denied where somebody has no role anywhere, but by an admin: whoever gave him the first one could disable
    him."""
    if not person.roles and not caller.is_admin:
        raise Denied(
            f"{caller.email} may not grant {person.email!r} a role, who has none anywhere: an admin gives the first "
            f"(`vini person grant {person.email} user --site SITE`)."
        )


def seen(caller: Caller, target: Target) -> None:
    """Raises NotFound where he may not even know that it is there: in the words for what isn't."""
    if not allows(caller, f"see {target.kind}", target):
        raise NotFound(absent(target.kind, target.name))


def absent(kind: str, name: str) -> str:
    """What to say of what is not there, or not for him."""
    return f"There is no {kind} {name!r} that you may see; `{_LISTS[kind]}` lists those that there are."


def _is(caller: Caller, relation: str, target: Target) -> bool:
    match relation:
        case "anyone":
            return True
        case "admin":
            return caller.is_admin
        case "self":
            return bool(target.person) and caller.email == target.person
        case "member":
            return caller.email in target.members
        case "guest":
            until = target.guests.get(caller.email)
            return until is not None and (not until or caller.at < until)
        case _:
            return not target.sites.isdisjoint(caller.sites(relation))


def _sentence(action: str, target: Target) -> str:
    return f"{action} {target.name!r}" if action.endswith(target.kind) else f"{action} ({target.kind} {target.name!r})"
