"""Who asks: a person with roles, by a token with scopes."""

from __future__ import annotations

from typing import Literal, get_args

from vini.model import Value

Role = Literal["admin", "pi", "tech", "user"]
Scope = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
SCOPES: tuple[Scope, ...] = get_args(Scope)
EVERYWHERE = ""  # as a role's site


class Caller(Value, frozen=True):
    """A person as the rules know him, at this moment."""

    email: str
    roles: frozenset[tuple[str, str]] = frozenset()  # (role, `login_base` or EVERYWHERE)
    scopes: frozenset[str] = frozenset(SCOPES)  # of the token that he came with
    at: float = 0.0  # this moment, Unix time: what somebody had until then he has not any more
    source: str = ""  # the address that he came from; "": not known

    @property
    def is_admin(self) -> bool:
        """Whether he may do everything, as far as his token lets him."""
        return ("admin", EVERYWHERE) in self.roles

    def sites(self, *roles: str) -> frozenset[str]:
        """The sites at which he has one of these roles; without any, those at which he has one at all."""
        return frozenset(site for role, site in self.roles if site and (not roles or role in roles))
