"""What a caller may ask for: the bodies of requests.  What is unset stays as it is."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from vini.model import Mistake, Value
from vini.rules.caller import Role, Scope
from vini.rules.nouns import BootState
from vini.rules.words import (
    Amount,
    Count,
    Email,
    FilePath,
    Latitude,
    Line,
    LoginBase,
    Longitude,
    NodeName,
    OlderEmail,
    Password,
    PlaceName,
    SliceName,
    SshKey,
    Text,
    Time,
    Url,
    Word,
)

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """Some of many; `next` is the cursor of those that follow, "" at the end."""

    items: list[T]
    next: str = ""


class Fault(Struct, frozen=True):
    """What every request that fails is answered with."""

    error: str  # the kind: the name of a class of docs/reference/errors.md
    sentence: str
    mistakes: tuple[Mistake, ...] = ()


class Credentials(Value, frozen=True):
    """To log in."""

    email: OlderEmail
    password: Annotated[str, Meta(max_length=256)]


class BegunLogin(Struct, frozen=True):
    """A login through an issuer: its user opens the page and types the code, or opens the one that has it already."""

    login: str  # a secret, by which whoever began it asks what became of it
    user_code: str
    page: str
    page_with_code: str  # ""
    expires: float
    every_s: float  # between two questions


class OidcLogin(Value, frozen=True):
    """One that was begun."""

    login: Annotated[str, Meta(max_length=256)]


class Secret(Struct, frozen=True):
    """A token, shown once."""

    secret: str
    expires: float


class NewToken(Value, frozen=True):
    """An API token of one's own."""

    name: Line = ""
    scopes: frozenset[Scope] = frozenset({"read"})
    lifetime_s: Annotated[float, Meta(ge=1, le=366 * 86_400)] = 30 * 86_400.0


class NewJoinToken(Value, frozen=True):
    """What lets one machine join as a node of a site."""

    site: LoginBase
    lifetime_s: Annotated[float, Meta(ge=1, le=7 * 86_400)] = 3600.0


class NewSite(Value, frozen=True):
    """A site."""

    login_base: LoginBase
    name: Line = ""
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    enabled: bool = True
    max_slices: Count = 10
    max_slivers: Count = 1000
    cores: Amount = 0.0
    memory_mib: Count = 0
    link_mbit: Amount = 0.0
    slivers: Count = 0
    vnis: Count = 0
    disk_mb: Count = 0


class ChangeSite(Value, frozen=True):
    """What of a site is to be different; from `enabled` on only an admin may."""

    name: Line | UnsetType = UNSET
    latitude: Latitude | None | UnsetType = UNSET
    longitude: Longitude | None | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    max_slices: Count | UnsetType = UNSET
    max_slivers: Count | UnsetType = UNSET
    cores: Amount | UnsetType = UNSET
    memory_mib: Count | UnsetType = UNSET
    link_mbit: Amount | UnsetType = UNSET
    slivers: Count | UnsetType = UNSET
    vnis: Count | UnsetType = UNSET
    disk_mb: Count | UnsetType = UNSET


class NewPerson(Value, frozen=True):
    """An account, with its first role."""

    email: Email
    name: Line = ""
    password: Password | UnsetType = UNSET  # without one he can't log in by password
    site: LoginBase | UnsetType = UNSET
    role: Role = "user"


class ChangePerson(Value, frozen=True):
    """What of an account is to be different."""

    name: Line | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Grant(Value, frozen=True):
    """A role at a site; that of an admin is everywhere."""

    role: Role
    site: LoginBase | UnsetType = UNSET


class NewKey(Value, frozen=True):
    """A public SSH key, as in an `authorized_keys` file."""

    key: SshKey


class ChangeNode(Value, frozen=True):
    """What of a node is to be different; the rest it says itself."""

    boot_state: BootState


class NewSlice(Value, frozen=True):
    """A slice; its name begins with its site's and a "_".  `members` may use it besides its creator."""

    name: SliceName
    description: Text = ""
    url: Url = ""
    members: tuple[Email, ...] = ()


class ChangeSlice(Value, frozen=True):
    """What of a slice is to be different; `max_slivers` only an admin may change."""

    description: Text | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    max_slivers: Count | UnsetType = UNSET


class Renewal(Value, frozen=True):
    """Until when a slice is to live; unset: as long as is allowed."""

    expires: Time | UnsetType = UNSET


class Invitation(Value, frozen=True):
    """Into which slivers of a slice somebody is let, and until when; unset: all, and as long as the slice lives."""

    slivers: Annotated[tuple[Word, ...], Meta(max_length=100)] = ()
    until: Time | UnsetType = UNSET


class NewTag(Value, frozen=True):
    """A tag of a node; or of a slice, there of a nodegroup or of a node (a sliver), where one is named."""

    name: Word
    value: Text
    slice: SliceName | UnsetType = UNSET
    node: NodeName | UnsetType = UNSET
    nodegroup: Word | UnsetType = UNSET


class NewNodeGroup(Value, frozen=True):
    """All nodes whose tag has this value."""

    name: Word
    tag: Word
    value: Text


class NewInitScript(Value, frozen=True):
    """What slivers that name it run at each of their boots."""

    name: Word
    script: Text
    enabled: bool = True


class NewConfFile(Value, frozen=True):
    """A file for one node, for a nodegroup, or for all nodes."""

    path: FilePath
    text: Text
    mode: Annotated[int, Meta(ge=0, le=0o777)] = 0o644
    owner: Word = "root"
    enabled: bool = True
    node: NodeName | UnsetType = UNSET
    nodegroup: Word | UnsetType = UNSET
    group: Word = "root"
    preinstall_cmd: Text = ""
    postinstall_cmd: Text = ""
    error_cmd: Text = ""
    ignore_cmd_errors: bool = False
    always_update: bool = False


class NewLease(Value, frozen=True):
    """A node for a slice."""

    slice: SliceName
    node: NodeName
    start: Time
    end: Time


class NewSubstrateLink(Value, frozen=True):
    """A link of the substrate between two nodes ("n1") or sites ("site:home")."""

    name: Word
    a: PlaceName
    b: PlaceName
    rate_mbit: Amount = 0.0  # 0: not bounded
    delay_ms: Amount = 0.0


class ChangeSubstrateLink(Value, frozen=True):
    """What of a link of the substrate is to be different; `down` says why it is taken down, "" brings it up."""

    rate_mbit: Amount | UnsetType = UNSET
    delay_ms: Amount | UnsetType = UNSET
    down: Line | UnsetType = UNSET
