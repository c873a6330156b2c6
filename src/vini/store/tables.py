"""The tables.  A change here needs a migration beside it (`migrations/versions`); a test compares the two.

Names are unique and are what people use; numbers (`id`) are what rows refer to, and what PLCAPI will show.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from vini.usage import FIELDS

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _text(name: str, default: str = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _of(name: str, to: str, optional: bool = False, primary_key: bool = False) -> Column[int]:
    """A row of another table, whose end is this one's too."""
    foreign = ForeignKey(f"{to}.id", ondelete="CASCADE")
    return Column(name, Integer, foreign, nullable=optional and not primary_key, primary_key=primary_key)


sites = Table(
    "sites",
    metadata,
    _id(),
    Column("login_base", Text, nullable=False, unique=True),
    _text("name"),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("enabled", Boolean, nullable=False),
    Column("max_slices", Integer, nullable=False),
    Column("max_slivers", Integer, nullable=False),
    Column("cores", Double, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("link_mbit", Double, nullable=False),
    Column("slivers", Integer, nullable=False, server_default="0"),
    Column("vnis", Integer, nullable=False, server_default="0"),
    Column("disk_mb", Integer, nullable=False, server_default="0"),
)

persons = Table(
    "persons",
    metadata,
    _id(),
    Column("email", Text, nullable=False, unique=True),  # in lower case
    _text("name"),
    _text("password"),  # as argon2 writes it; "": no password fits
    Column("enabled", Boolean, nullable=False),
)

roles = Table(
    "roles",
    metadata,
    _id(),
    _of("person_id", "persons"),
    Column("role", Text, nullable=False),
    _of("site_id", "sites", optional=True),  # none: everywhere
    UniqueConstraint("person_id", "role", "site_id"),
    CheckConstraint("role IN ('admin', 'pi', 'tech', 'user')", name="word"),
)
Index(
    "uq_roles_everywhere",
    roles.c.person_id,
    roles.c.role,
    unique=True,
    sqlite_where=roles.c.site_id.is_(None),
    postgresql_where=roles.c.site_id.is_(None),
)
Index(None, roles.c.site_id)

keys = Table(
    "keys",
    metadata,
    _id(),
    Column("person_id", Integer, ForeignKey("persons.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("key", Text, nullable=False),  # "ssh-ed25519 AAAA...", without comment
    _text("comment"),
    UniqueConstraint("person_id", "key"),
)

key_blacklist = Table("key_blacklist", metadata, Column("key", Text, primary_key=True))

nodes = Table(
    "nodes",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("site_id", Integer, ForeignKey("sites.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("boot_state", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False, unique=True),
    _text("capabilities"),  # sorted, with a space between two
    _text("address"),
    Column("mtu", Integer, nullable=False),
    Column("cores", Double, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    _text("version"),
    _text("wireguard"),  # public key, in base64
    Column("disk_mb", Integer, nullable=False, server_default="0"),
    Column("rate_mbit", Double, nullable=False, server_default="0"),  # of its uplink, for slivers; 0: nobody said
    Column("failing", Text, nullable=False, server_default=""),  # a line for each part of its agent that fails
    Column("joined", Double, nullable=False),  # Unix time, s, as all times here
    Column("last_heard", Double, nullable=False),
    Column("clock_offset_s", Double, nullable=False),  # ahead of the central's
    Column("clock_error_s", Double, nullable=False, server_default="0"),  # by how much that may be wrong
    CheckConstraint("boot_state IN ('boot', 'safeboot', 'reinstall', 'disabled')", name="boot_state"),
)

interfaces = Table(  # of the machine itself, as its node said
    "interfaces",
    metadata,
    _of("node_id", "nodes", primary_key=True),
    Column("name", Text, primary_key=True),
    _text("mac"),
    Column("mtu", Integer, nullable=False),
    _text("addresses"),  # with prefix lengths, sorted, with a space between two
    Column("speed_mbit", Integer, nullable=False),  # 0: its kernel does not know it
)

slices = Table(
    "slices",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("site_id", Integer, ForeignKey("sites.id", ondelete="RESTRICT"), nullable=False, index=True),
    _text("description"),
    _text("url"),
    _text("creator"),  # e-mail address; the person may be gone
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False, index=True),
    Column("max_slivers", Integer, nullable=False),
    Column("updated", Double, nullable=False),  # when something else was asked for
    Column("generation", BigInteger, nullable=False, index=True),
    Column("topology", LargeBinary, nullable=False),  # JSON; empty: nothing was ever asked for
)

ended = Table(  # slices that are no more: one that gets such a name goes on counting
    "ended",
    metadata,
    Column("name", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    _text("person"),  # who was responsible
)

usage = Table(  # what slices used; names, since what they name may be gone
    "usage",
    metadata,
    Column("node", Text, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # of UTC, since 1970
    Column("slice", Text, primary_key=True),
    Column("site", Text, nullable=False),
    _text("person"),  # e-mail address
    *(Column(name, BigInteger, nullable=False) for name in FIELDS),  # of all its slivers there, see `vini.usage`
    Column("slivers", LargeBinary, nullable=False),  # MessagePack, as `store.usage` writes it
)
Index("ix_usage_day_site", usage.c.day, usage.c.site)
Index("ix_usage_slice_day", usage.c.slice, usage.c.day)

slice_members = Table(
    "slice_members",
    metadata,
    _of("slice_id", "slices", primary_key=True),
    Column("person_id", Integer, ForeignKey("persons.id", ondelete="CASCADE"), primary_key=True, index=True),
)

outside_grants = Table(  # what may leave a slice for the world; a slice that has no row here may nothing
    "outside_grants",
    metadata,
    _of("slice_id", "slices", primary_key=True),
    Column("body", LargeBinary, nullable=False),  # JSON
    _text("by"),  # e-mail address; the person may be gone
    Column("at", Double, nullable=False),
)

slice_guests = Table(
    "slice_guests",
    metadata,
    _of("slice_id", "slices", primary_key=True),
    Column("person_id", Integer, ForeignKey("persons.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("slivers", Text, nullable=False),  # JSON: names; none: all
    Column("until", Double, nullable=False),  # Unix time; 0: for as long as the slice lives
    Column("host", Text, nullable=False),  # who invited him
)

specs = Table(  # by the slice's name: the end of a slice has to reach its nodes when the slice is gone
    "specs",
    metadata,
    Column("node_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("slice", Text, primary_key=True, index=True),
    Column("generation", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # JSON
    Column("ends", Boolean, nullable=False),  # asks for the slice's end on this node
    Column("seq", BigInteger, nullable=False, index=True),
    Column("acked", BigInteger, nullable=False),  # the newest generation that the node reported of; 0: none yet
    Column("report", LargeBinary, nullable=False),
    Column("reported_at", Double, nullable=False),
    Column("cores", Double, nullable=False, server_default="0"),  # what the slice takes of the node
    Column("memory_mib", Double, nullable=False, server_default="0"),
    Column("disk_mb", Double, nullable=False, server_default="0"),
    Column("mbit", Double, nullable=False, server_default="0"),
)

uses = Table(  # the sums of the same over all slices; asked at every change of any
    "uses",
    metadata,
    _of("node_id", "nodes", primary_key=True),
    Column("cores", Double, nullable=False),
    Column("memory_mib", Double, nullable=False),
    Column("disk_mb", Double, nullable=False, server_default="0"),
    Column("mbit", Double, nullable=False, server_default="0"),
)

takings = Table(  # what each slice takes of its site's quota
    "takings",
    metadata,
    _of("slice_id", "slices", primary_key=True),
    Column("slivers", Integer, nullable=False),
    Column("cores", Double, nullable=False),
    Column("memory_mib", Double, nullable=False),
    Column("link_mbit", Double, nullable=False),
    Column("vnis", Integer, nullable=False),
    Column("disk_mb", Double, nullable=False, server_default="0"),
)

crossings = Table(  # what each slice's links between two nodes take
    "crossings",
    metadata,
    _of("slice_id", "slices", primary_key=True),
    Column("a_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("b_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("mbit", Double, nullable=False),
)

substrate_links = Table(
    "substrate_links",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _of("a_node_id", "nodes", optional=True),  # of each end one of the two
    _of("a_site_id", "sites", optional=True),
    _of("b_node_id", "nodes", optional=True),
    _of("b_site_id", "sites", optional=True),
    Column("rate_mbit", Double, nullable=False),
    Column("delay_ms", Double, nullable=False),
    _text("down"),  # why; "": it is up
    Column("down_since", Double, nullable=False),
    CheckConstraint("(a_node_id IS NULL) <> (a_site_id IS NULL)", name="a"),
    CheckConstraint("(b_node_id IS NULL) <> (b_site_id IS NULL)", name="b"),
)

latencies = Table(  # what each node measured of the ways to others
    "latencies",
    metadata,
    _of("node_id", "nodes", primary_key=True),
    Column("body", LargeBinary, nullable=False),  # MessagePack, as `store.latencies` writes it
)

counters = Table(  # each a row that whoever counts it locks until he commits
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

tunnels = Table(
    "tunnels",
    metadata,
    Column("slice", Text, primary_key=True),
    Column("link", Text, primary_key=True),
    Column("vni", Integer, nullable=False, unique=True),
    CheckConstraint("vni BETWEEN 1 AND 16777215", name="vni"),
)

wireguards = Table(  # slices whose tunnels are encrypted
    "wireguards",
    metadata,
    Column("slice", Text, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),  # of its UDP port
    CheckConstraint("number BETWEEN 1 AND 12000", name="number"),
)

tokens = Table(
    "tokens",
    metadata,
    _id(),
    Column("secret", Text, nullable=False, unique=True),  # its SHA-256
    Column("kind", Text, nullable=False),  # "api" or "session"
    Column("person_id", Integer, ForeignKey("persons.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("name"),
    Column("scopes", Text, nullable=False),  # sorted, with a space between two
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
)

oidc_logins = Table(  # that wait for their user to confirm them at the issuer
    "oidc_logins",
    metadata,
    Column("secret", Text, primary_key=True),  # its SHA-256
    Column("device_code", Text, nullable=False),  # the issuer's name for it, which nobody else learns
    Column("nonce", Text, nullable=False),
    Column("expires", Double, nullable=False),
    Column("interval_s", Double, nullable=False),  # between two questions to the issuer
    Column("polled", Double, nullable=False),
    Column("source", Text, nullable=False),  # the address that it was begun from
)

join_tokens = Table(
    "join_tokens",
    metadata,
    _id(),
    Column("secret", Text, nullable=False, unique=True),  # its SHA-256
    Column("site_id", Integer, ForeignKey("sites.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("used", Double),  # when
)

nodegroups = Table(
    "nodegroups",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("tag", Text, nullable=False),
    Column("value", Text, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("slice_id", Integer, ForeignKey("slices.id", ondelete="CASCADE")),
    Column("node_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), index=True),
    Column("nodegroup_id", Integer, ForeignKey("nodegroups.id", ondelete="CASCADE"), index=True),
    CheckConstraint("slice_id IS NOT NULL OR node_id IS NOT NULL", name="has_target"),
    CheckConstraint("nodegroup_id IS NULL OR (slice_id IS NOT NULL AND node_id IS NULL)", name="one_target"),
    UniqueConstraint("slice_id", "node_id", "name"),
    UniqueConstraint("slice_id", "nodegroup_id", "name"),
)
_OF_SLICE = tags.c.node_id.is_(None) & tags.c.nodegroup_id.is_(None)
Index("uq_tags_slice", tags.c.slice_id, tags.c.name, unique=True, sqlite_where=_OF_SLICE, postgresql_where=_OF_SLICE)
_OF_NODE = tags.c.slice_id.is_(None)
Index("uq_tags_node", tags.c.node_id, tags.c.name, unique=True, sqlite_where=_OF_NODE, postgresql_where=_OF_NODE)
Index("ix_tags_name_value", tags.c.name, tags.c.value)

initscripts = Table(
    "initscripts",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("enabled", Boolean, nullable=False),
    Column("script", Text, nullable=False),
)

conf_files = Table(
    "conf_files",
    metadata,
    _id(),
    Column("path", Text, nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("mode", Integer, nullable=False),
    _text("owner"),
    Column("enabled", Boolean, nullable=False),
    Column("node_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), index=True),  # neither: global
    Column("nodegroup_id", Integer, ForeignKey("nodegroups.id", ondelete="CASCADE"), index=True),
    _text("group", "root"),
    _text("preinstall_cmd"),
    _text("postinstall_cmd"),
    _text("error_cmd"),
    Column("ignore_cmd_errors", Boolean, nullable=False, server_default=false()),
    Column("always_update", Boolean, nullable=False, server_default=false()),
    CheckConstraint("node_id IS NULL OR nodegroup_id IS NULL", name="target"),
)

conf_files_there = Table(  # what nodes have of them, as each said last
    "conf_files_there",
    metadata,
    Column("node_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("version", Text, nullable=False),  # of the file that it tells of
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", Double, nullable=False),  # since when
)

event_budgets = Table(  # how many events a node's own words were in this minute
    "event_budgets",
    metadata,
    Column("node_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("what", Text, primary_key=True),
    Column("since", Double, nullable=False),  # when the minute began (Unix time, s)
    Column("events", Integer, nullable=False),
    Column("more", Integer, nullable=False),  # that were not written
)

logins_told = Table(  # who logged in to slivers there: how far each node has told
    "logins_told",
    metadata,
    Column("node_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("until", BigInteger, nullable=False),  # a number of the node's
)

leases = Table(
    "leases",
    metadata,
    _id(),
    Column("slice_id", Integer, ForeignKey("slices.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("node_id", Integer, ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    CheckConstraint('"end" > start', name="order"),
)
Index("ix_leases_node_id_end", leases.c.node_id, leases.c.end)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("who", Text, nullable=False, index=True),  # an e-mail address, or "node NAME"
    Column("what", Text, nullable=False),  # an action of `vini.rules`
    Column("kind", Text, nullable=False),  # of the target: "slice", "node", ...
    Column("target", Text, nullable=False),
    _text("source"),  # the address that the request came from
    Column("result", Text, nullable=False),  # "ok", or the kind of the error
    _text("detail"),
    Column("duration_s", Double, nullable=False),
)
Index("ix_events_kind_target_id", events.c.kind, events.c.target, events.c.id)

event_chain = Table(  # one link for each event, which stays as long as that
    "event_chain",
    metadata,
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("event_id", BigInteger, nullable=False, index=True),
    Column("hash", Text, nullable=False),  # SHA-256 in hexadecimal, see `store/chain.py`
)

notices = Table(  # that wait to be sent
    "notices",
    metadata,
    _id(),
    Column("event_id", BigInteger, nullable=False),
    Column("channel", Text, nullable=False),  # "mail" or "webhook"
    Column("address", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due", Double, nullable=False, index=True),  # when it is tried (again)
)

last_members = Table(  # who was in a slice when its time was over
    "last_members",
    metadata,
    Column("event_id", BigInteger, ForeignKey("events.id", ondelete="CASCADE"), primary_key=True),  # which ended it
    Column("email", Text, primary_key=True, index=True),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", Text, primary_key=True),
    Column("who", Text, primary_key=True),
    Column("request", Text, nullable=False),  # SHA-256 of method, path and body
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", Double, nullable=False, index=True),
)

engine_servers = Table(
    "engine_servers",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # its keys and certificates follow from it
    Column("address", Text, nullable=False, unique=True),  # NAME:PORT
    _of("site_id", "sites", optional=True),  # NULL: it is one of the cluster
)

centrals = Table(
    "centrals",
    metadata,
    Column("id", Text, primary_key=True),  # of one life of a central
    Column("url", Text, nullable=False),  # by which the others reach it
    Column("secret", Text, nullable=False),  # what they have to know; who reads this database may do all anyway
    Column("beat", BigInteger, nullable=False),  # counts on as long as it lives: whose clock is right does not matter
    Column("nodes", Text, nullable=False),  # those that are connected to it, sorted, with a space between two
    _text("channels"),  # which the version of the day before writes, and nobody reads
)
