"""The API: who may what, one shape for all errors, nothing lost between two who change at once, nothing done twice."""

from __future__ import annotations

import re
import threading

import pytest
from sqlalchemy import select, update
from testbed_api import HASH, KEY, PASSWORD, ROLES, Api, email, populated

from vini.central import faults
from vini.central.faults import KINDS
from vini.model import CapacityError, Netns, SliceSpec, Sliver, Topology
from vini.rules.access import ACTIONS
from vini.rules.nouns import NodeSaid
from vini.store import events, last_members, nodes, persons, slices, tables, tokens
from vini.store.database import DatabaseError


@pytest.fixture
def api(database) -> Api:
    return populated(database)


SLICE = "/slices/princeton_iias"
NODE = "/nodes/n1.princeton.example"


@pytest.mark.parametrize(
    "method, path, body, may",
    [
        ("GET", "/sites", None, "admin pi tech user outsider"),
        ("GET", "/sites/princeton", None, "admin pi tech user outsider"),
        ("POST", "/sites", {"login_base": "ucsd"}, "admin"),
        ("PATCH", "/sites/princeton", {"name": "Princeton"}, "admin pi"),
        ("PATCH", "/sites/princeton", {"max_slices": 7}, "admin"),
        ("DELETE", "/sites/mit", None, "admin"),
        ("GET", f"/persons/{email('user')}", None, "admin pi tech user"),
        ("POST", "/persons", {"email": "new@x.example", "site": "princeton"}, "admin pi"),
        ("POST", "/persons", {"email": "new@x.example", "site": "princeton", "role": "pi"}, "admin"),
        ("POST", "/persons", {"email": "new@x.example"}, "admin"),
        ("PATCH", f"/persons/{email('user')}", {"name": "Me"}, "admin user"),
        ("PATCH", f"/persons/{email('user')}", {"enabled": False}, "admin pi"),
        ("PATCH", f"/persons/{email('admin')}", {"name": "Me"}, "admin"),
        ("DELETE", f"/persons/{email('user')}", None, "admin"),
        ("POST", f"/persons/{email('user')}/roles", {"role": "tech", "site": "princeton"}, "admin pi"),
        ("POST", f"/persons/{email('user')}/roles", {"role": "pi", "site": "princeton"}, "admin"),
        ("POST", f"/persons/{email('user')}/roles", {"role": "admin"}, "admin"),
        ("DELETE", f"/persons/{email('user')}/roles/user?site=princeton", None, "admin pi"),
        ("GET", f"/persons/{email('user')}/keys", None, "admin pi tech user"),
        ("POST", f"/persons/{email('user')}/keys", {"key": KEY}, "admin user"),
        ("POST", "/key-blacklist", {"key": KEY}, "admin"),
        ("GET", "/nodes", None, "admin pi tech user outsider"),
        ("PATCH", NODE, {"boot_state": "disabled"}, "admin pi tech"),
        ("DELETE", NODE, None, "admin pi tech"),
        ("POST", "/join-tokens", {"site": "princeton"}, "admin pi tech"),
        ("GET", SLICE, None, "admin pi tech user"),
        ("POST", "/slices", {"name": "princeton_new"}, "admin pi"),
        ("PATCH", SLICE, {"description": "x"}, "admin pi user"),
        ("PATCH", SLICE, {"max_slivers": 5}, "admin"),
        ("PUT", f"{SLICE}/members/{email('tech')}", None, "admin pi"),
        ("DELETE", f"{SLICE}/members/{email('user')}", None, "admin pi"),
        ("PUT", f"{SLICE}/guests/{email('tech')}", {"slivers": ["a"]}, "admin pi user"),
        ("DELETE", SLICE, None, "admin pi"),
        ("POST", "/tags", {"name": "arch", "value": "arm", "node": "n1.princeton.example"}, "admin pi tech"),
        ("POST", "/tags", {"name": "cpu", "value": "3", "slice": "princeton_iias"}, "admin"),
        ("POST", "/nodegroups", {"name": "arm", "tag": "arch", "value": "arm"}, "admin"),
        (
            "POST",
            "/leases",
            {"slice": "princeton_iias", "node": "n1.princeton.example", "start": 1_000_000, "end": 1_010_000},
            "admin pi user",
        ),
        ("POST", "/initscripts", {"name": "motd", "script": "#!/bin/sh"}, "admin"),
        ("POST", "/conf-files", {"path": "/etc/motd", "text": "hello"}, "admin"),
    ],
)
def test_who_may(api, method, path, body, may):
    """Everybody else is refused first, so that what is asked for is still there."""
    allowed = may.split()
    for who in [w for w in ROLES if w not in allowed]:
        answer = api(who, method, path, body)
        assert answer.status_code in (403, 404), (who, answer.text)
        assert answer.json()["error"] in ("Denied", "NotFound")
    answer = api(allowed[-1], method, path, body)
    assert answer.is_success, answer.text
    answer = api("", method, path, body)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_what_one_may_not_know_of_looks_like_what_is_not_there(api):
    there, not_there = api("outsider", "GET", SLICE), api("outsider", "GET", "/slices/princeton_nothing")
    assert there.status_code == not_there.status_code == 404
    assert there.json()["sentence"].replace("iias", "nothing") == not_there.json()["sentence"]


def test_lists_show_what_the_rules_let_one_see(api):
    for who in ROLES:
        listed = {s["name"] for s in api(who, "GET", "/slices").json()["items"]}
        assert listed == ({"princeton_iias"} if api(who, "GET", SLICE).is_success else set())
        people = {p["email"] for p in api(who, "GET", "/persons").json()["items"]}
        for other in ROLES:
            seen = api(who, "GET", f"/persons/{email(other)}").is_success
            assert not (seen and email(other) not in people), (who, other)


class TestLogin:
    def test_a_password_gives_a_session_that_can_be_ended(self, api):
        answer = api("", "POST", "/sessions", {"email": "USER@princeton.example", "password": PASSWORD})
        assert answer.status_code == 201
        secret = answer.json()["secret"]
        assert api(secret, "GET", "/me").json()["email"] == email("user")
        assert api(secret, "DELETE", "/sessions/current").status_code == 204
        answer = api(secret, "GET", "/me")
        assert (answer.status_code, answer.json()["error"]) == (401, "Denied")

    def test_a_session_ends_by_itself(self, api):
        secret = api("", "POST", "/sessions", {"email": email("user"), "password": PASSWORD}).json()["secret"]
        api.now[0] += tokens.SESSION_S
        assert "expired" in api(secret, "GET", "/me").json()["sentence"]

    def test_a_wrong_password_and_no_account_look_the_same(self, api):
        wrong = api("", "POST", "/sessions", {"email": email("user"), "password": "x"})
        nobody = api("", "POST", "/sessions", {"email": "nobody@x.example", "password": "x"})
        assert wrong.status_code == nobody.status_code == 401
        assert wrong.json() == nobody.json()

    def test_guessing_is_slowed_down(self, api):
        for _ in range(10):
            api("", "POST", "/sessions", {"email": email("user"), "password": "x"})
        right = {"email": email("user"), "password": PASSWORD}
        assert api("", "POST", "/sessions", right).status_code == 403
        api.now[0] += 601
        assert api("", "POST", "/sessions", right).status_code == 201

    def test_who_is_disabled_is_out_at_once(self, api):
        assert api("pi", "PATCH", f"/persons/{email('user')}", {"enabled": False}).is_success
        assert "disabled" in api("user", "GET", "/me").json()["sentence"]
        assert api("", "POST", "/sessions", {"email": email("user"), "password": PASSWORD}).status_code == 401

    def test_roles_at_a_disabled_site_are_worth_nothing(self, api):
        assert api("admin", "PATCH", "/sites/princeton", {"enabled": False}).is_success
        assert api("pi", "PATCH", "/sites/princeton", {"name": "x"}).status_code == 403

    def test_a_token_can_do_what_its_scopes_say(self, api):
        secret = api("pi", "POST", "/tokens", {"name": "reads", "scopes": ["read"]}).json()["secret"]
        assert api(secret, "GET", SLICE).is_success
        answer = api(secret, "PATCH", SLICE, {"description": "x"})
        assert (answer.status_code, "scope 'write'" in answer.json()["sentence"]) == (403, True)
        assert api(secret, "POST", "/tokens", {"scopes": ["admin"]}).status_code == 403

    def test_no_token_gives_more_than_itself(self, api):
        secret = api("pi", "POST", "/tokens", {"scopes": ["read", "write"]}).json()["secret"]
        assert api(secret, "POST", "/tokens", {"scopes": ["read", "admin"]}).status_code == 403
        listed = api("pi", "GET", "/tokens").json()["items"]
        assert [t["scopes"] for t in listed] == [["admin", "read", "write"], ["read", "write"]]
        assert api("user", "DELETE", f"/tokens/{listed[1]['id']}").status_code == 404
        assert api("pi", "DELETE", f"/tokens/{listed[1]['id']}").status_code == 204
        assert api(secret, "GET", "/me").status_code == 401

    def test_secrets_are_not_kept(self, api):
        from sqlalchemy import select

        from vini.store.tables import tokens as table

        with api.database.reading() as tx:
            assert not set(tx.scalars(select(table.c.secret))) & set(api.secrets.values())


class TestJoinTokens:
    def test_one_is_good_once(self, api):
        secret = api("tech", "POST", "/join-tokens", {"site": "princeton"}).json()["secret"]
        with api.database.transaction() as tx:
            assert tokens.use_join(tx, secret, api.now[0] + 5) == ("princeton", True)
        said = [self._refused(api, s, 6.0) for s in (secret, secret + "x")]
        late = api("tech", "POST", "/join-tokens", {"site": "princeton"}).json()["secret"]
        said.append(self._refused(api, late, 3600.0))
        assert [word in text for word, text in zip(("used", "wrong", "expired"), said, strict=True)] == [True] * 3

    def _refused(self, api, secret, after_s):
        from vini.model import Denied

        with pytest.raises(Denied) as told, api.database.transaction() as tx:
            tokens.use_join(tx, secret, api.now[0] + after_s)
        return str(told.value)


class TestSlices:
    def test_a_new_one_lives_two_weeks_and_is_renewed_with_a_reason(self, api):
        made = api("pi", "POST", "/slices", {"name": "princeton_new"}).json()
        assert made["members"] == [email("pi")]
        assert made["expires"] == api.now[0] + 14 * 86400
        path = "/slices/princeton_new/renewals"
        answer = api("pi", "POST", path, {})
        assert (answer.status_code, answer.json()["error"]) == (400, "Invalid")
        api("pi", "PATCH", "/slices/princeton_new", {"description": "BGP", "url": "https://x.example"})
        assert api("pi", "POST", path, {}).json()["expires"] == api.now[0] + 56 * 86400
        assert api("pi", "POST", path, {"expires": api.now[0] + 57 * 86400}).status_code == 400

    def test_a_slice_is_made_with_all_its_members_or_not_at_all(self, api):
        wish = {"name": "princeton_more", "members": [email("user"), "nobody@x.example"]}
        refused = api("pi", "POST", "/slices", wish)
        assert refused.status_code == 404 and "nobody@x.example" in refused.json()["sentence"]
        assert api("pi", "GET", "/slices/princeton_more").status_code == 404
        made = api("pi", "POST", "/slices", {**wish, "members": [email("user"), email("pi")]})
        assert made.json()["members"] == [email("pi"), email("user")]

    def test_a_site_without_slices_can_not_renew(self, api):
        api("user", "PATCH", SLICE, {"description": "BGP", "url": "https://x.example"})
        api("admin", "PATCH", "/sites/princeton", {"max_slices": 0})
        answer = api("user", "POST", f"{SLICE}/renewals", {})
        assert (answer.status_code, "max_slices is 0" in answer.json()["sentence"]) == (403, True)

    def test_one_that_is_deleted_ends_on_its_nodes(self, api):
        node = "n1.princeton.example"
        spec = SliceSpec("princeton_iias", node, 1, frozenset({Netns("princeton_iias.a")}))
        with api.database.transaction() as tx:
            slices.put_topology(tx, "princeton_iias", Topology("princeton_iias", {"a": Sliver("a")}), {node: spec}, 1.0)
        assert api("pi", "DELETE", SLICE).status_code == 204
        with api.database.reading() as tx:
            assert slices.specs_of_node(tx, node) == [SliceSpec("princeton_iias", node, 2)]

    def test_a_guest_sees_the_slice_and_changes_nothing_of_it_until_he_is_shown_out(self, api):
        assert api("outsider", "GET", SLICE).status_code == 404
        wish = {"slivers": ["a", "a"], "until": 4e9}
        made = api("user", "PUT", f"{SLICE}/guests/{email('outsider')}", wish).json()
        assert made["guests"] == [{"email": email("outsider"), "slivers": ["a"], "until": 4e9, "host": email("user")}]
        assert api("outsider", "GET", SLICE).status_code == 200
        assert [s["name"] for s in api("outsider", "GET", "/slices").json()["items"]] == ["princeton_iias"]
        for method, path, body in (
            ("PATCH", SLICE, {"description": "mine"}),
            ("PUT", f"{SLICE}/guests/{email('tech')}", {}),
            ("POST", f"{SLICE}/renewals", {}),
            ("DELETE", f"{SLICE}/guests/{email('outsider')}", None),
        ):
            assert api("outsider", method, path, body).status_code == 403, path
        assert api("user", "PUT", f"{SLICE}/guests/{email('tech')}", {"until": 5.0}).status_code == 400
        assert api("user", "PUT", f"{SLICE}/guests/no@x.example", {}).status_code == 404
        assert api("user", "DELETE", f"{SLICE}/guests/{email('outsider')}").json()["guests"] == []
        assert api("outsider", "GET", SLICE).status_code == 404

    def test_a_guest_whose_time_is_over_is_none_though_nobody_has_tidied_up_yet(self, api):
        wish = {"until": api.now[0] + 60}
        assert api("user", "PUT", f"{SLICE}/guests/{email('outsider')}", wish).is_success
        api.now[0] += 59
        assert api("outsider", "GET", SLICE).status_code == 200
        api.now[0] += 1
        assert api("outsider", "GET", SLICE).status_code == 404
        assert api("outsider", "GET", "/slices").json()["items"] == []
        assert api("outsider", "GET", "/events", None).is_success

    def test_who_is_no_member_any_more_is_out(self, api):
        assert api("user", "GET", SLICE).is_success
        assert api("pi", "DELETE", f"{SLICE}/members/{email('user')}").json()["members"] == []
        assert api("user", "GET", SLICE).status_code == 404


class TestChangingTogether:
    def test_nobody_overwrites_what_he_has_not_seen(self, api):
        seen = api("pi", "GET", SLICE).headers["ETag"]
        assert api("user", "PATCH", SLICE, {"description": "mine"}, If_Match=seen).is_success
        answer = api("pi", "PATCH", SLICE, {"description": "no, mine"}, If_Match=seen)
        assert (answer.status_code, answer.json()["error"]) == (412, "Conflict")
        assert api("pi", "DELETE", SLICE, If_Match=seen).status_code == 412
        assert api("pi", "GET", SLICE).json()["description"] == "mine"

    def test_a_heartbeat_is_no_change_of_a_node(self, api):
        seen = api("tech", "GET", NODE).headers["ETag"]
        with api.database.transaction() as tx:
            row = nodes.get(tx, "n1.princeton.example")
            nodes.heard(tx, row.name, 2e6, NodeSaid(row.capabilities), 0.5)
        assert api("tech", "PATCH", NODE, {"boot_state": "safeboot"}, If_Match=seen).is_success
        assert api("tech", "PATCH", NODE, {"boot_state": "boot"}, If_Match=seen).status_code == 412

    def test_what_is_sent_again_is_done_once(self, api):
        first = api("pi", "POST", "/slices", {"name": "princeton_new"}, Idempotency_Key="a")
        again = api("pi", "POST", "/slices", {"name": "princeton_new"}, Idempotency_Key="a")
        assert (first.status_code, first.content) == (again.status_code, again.content)
        assert first.status_code == 201
        assert first.headers["ETag"] == again.headers["ETag"]
        other = api("pi", "POST", "/slices", {"name": "princeton_more"}, Idempotency_Key="a")
        assert (other.status_code, other.json()["error"]) == (400, "Invalid")
        assert api("pi", "POST", "/slices", {"name": "princeton_new"}, Idempotency_Key="b").status_code == 409
        assert api("admin", "POST", "/slices", {"name": "princeton_more"}, Idempotency_Key="a").status_code == 201

    def test_a_secret_that_may_be_asked_for_again_is_not_in_the_database(self, api):
        first = api("pi", "POST", "/tokens", {}, Idempotency_Key="a")
        assert api("pi", "POST", "/tokens", {}, Idempotency_Key="a").json() == first.json()
        with api.database.reading() as tx:
            (row,) = tx.execute(select(tables.idempotency)).all()
        assert b"vini_" not in row.body and row.key != "a"

    def test_what_the_version_before_answered_is_not_done_again(self, api):
        first = api("pi", "POST", "/tokens", {}, Idempotency_Key="a")
        with api.database.transaction() as tx:
            tx.execute(update(tables.idempotency).values(key="a", body=first.content))  # as that one kept it
        for _ in range(2):
            assert api("pi", "POST", "/tokens", {}, Idempotency_Key="a").json() == first.json()
        assert api("pi", "POST", "/slices", {"name": "princeton_new"}, Idempotency_Key="a").status_code == 400

    def test_what_failed_may_be_tried_again_under_the_same_key(self, api):
        assert api("pi", "POST", f"{SLICE}/renewals", {}, Idempotency_Key="k").status_code == 400
        api("pi", "PATCH", SLICE, {"description": "BGP", "url": "https://x.example"})
        assert api("pi", "POST", f"{SLICE}/renewals", {}, Idempotency_Key="k").status_code == 200

    def test_the_last_admin_stays(self, api):
        me = f"/persons/{email('admin')}"
        for answer in (
            api("admin", "DELETE", me),
            api("admin", "PATCH", me, {"enabled": False}),
            api("admin", "DELETE", f"{me}/roles/admin"),
        ):
            assert (answer.status_code, answer.json()["error"]) == (409, "Conflict")
        api("admin", "POST", f"/persons/{email('pi')}/roles", {"role": "admin"})
        assert api("admin", "DELETE", me).status_code == 204


def test_pages_have_everything_once(api):
    for i in range(7):
        api("admin", "POST", "/sites", {"login_base": f"site{i}", "enabled": i % 2 == 0})
    names, cursor = [], ""
    while True:
        page = api("user", "GET", f"/sites?limit=2&cursor={cursor}").json()
        names += [s["login_base"] for s in page["items"]]
        assert len(page["items"]) <= 2
        if not (cursor := page["next"]):
            break
    assert names == ["mit", "princeton", *(f"site{i}" for i in range(7))]
    found = api("user", "GET", "/sites?name=site*&enabled=true").json()["items"]
    assert [s["login_base"] for s in found] == ["site0", "site2", "site4", "site6"]


def test_tags_hold_by_precedence_and_nodegroups_are_computed(api):
    node = "n1.princeton.example"
    api("tech", "POST", "/tags", {"name": "arch", "value": "arm", "node": node})
    api("admin", "POST", "/nodegroups", {"name": "arm", "tag": "arch", "value": "arm"})
    assert api("user", "GET", "/nodegroups").json()["items"][0]["nodes"] == [node]
    of = {"slice": "princeton_iias"}
    for target in (of, {**of, "nodegroup": "arm"}, {**of, "node": node}):
        effective = api("user", "GET", f"{SLICE}/nodes/{node}/tags").json()
        value = str(len(target)) + target.get("node", target.get("nodegroup", ""))
        assert effective.get("cpu") != value
        made = api("admin", "POST", "/tags", {"name": "cpu", "value": value, **target})
        assert made.is_success
        assert api("user", "GET", f"{SLICE}/nodes/{node}/tags").json() == {"cpu": value}
    assert api("user", "GET", f"{SLICE}/nodes/n2.princeton.example/tags").json() == {"cpu": "1"}
    api("admin", "DELETE", f"/tags/{made.json()['id']}")
    assert api("user", "GET", f"{SLICE}/nodes/{node}/tags").json() == {"cpu": "2arm"}
    assert len(api("user", "GET", "/tags?name=cpu").json()["items"]) == 2
    assert api("outsider", "GET", "/tags?name=cpu").json()["items"] == []
    answer = api("admin", "POST", "/tags", {"name": "cpu", "value": "1", "nodegroup": "arm"})
    assert answer.json()["error"] == "Invalid"


def test_of_conf_files_with_one_path_the_narrower_holds_for_a_node(api):
    one, other = "n1.princeton.example", "n2.princeton.example"
    api("admin", "POST", "/tags", {"name": "arch", "value": "arm", "node": one})
    api("admin", "POST", "/nodegroups", {"name": "arm", "tag": "arch", "value": "arm"})
    for text, target in (("all", {}), ("arm", {"nodegroup": "arm"}), ("own", {"node": one})):
        made = api("admin", "POST", "/conf-files", {"path": "/etc/motd", "text": text, **target})
        assert made.is_success
        held = {n: api("tech", "GET", f"/nodes/{n}/conf-files").json()["items"] for n in (one, other)}
        assert {n: [f["text"] for f in files] for n, files in held.items()} == {one: [text], other: ["all"]}
    api("admin", "POST", "/conf-files", {"path": "/etc/off", "text": "", "enabled": False})
    assert len(api("tech", "GET", f"/nodes/{other}/conf-files").json()["items"]) == 1
    assert api("tech", "GET", "/nodes/nobody/conf-files").status_code == 404


def test_leases_of_a_node_do_not_overlap(api):
    def lease(start: float, end: float):
        body = {"slice": "princeton_iias", "node": "n1.princeton.example", "start": start, "end": end}
        return api("user", "POST", "/leases", body)

    hour = 3600
    first = lease(1_000_001, 1_000_800 + 3 * hour)
    assert (first.json()["start"], first.json()["end"]) == (1_000_800, 1_000_800 + 3 * hour)
    assert lease(1_000_800 + 2 * hour, 1_000_800 + 4 * hour).status_code == 409
    assert lease(1_000_800 + 3 * hour, 1_000_800 + 4 * hour).status_code == 201
    assert lease(1_000_801, 1_000_900).status_code == 400
    assert len(api("outsider", "GET", "/leases").json()["items"]) == 2
    assert api("outsider", "DELETE", f"/leases/{first.json()['id']}").status_code == 403
    assert api("user", "DELETE", f"/leases/{first.json()['id']}").status_code == 204


class TestKeys:
    def test_one_on_the_blacklist_is_taken_and_never_comes_back(self, api):
        path = f"/persons/{email('user')}/keys"
        assert api("user", "POST", path, {"key": f"{KEY} me@laptop"}).json()["comment"] == "me@laptop"
        assert api("user", "POST", path, {"key": KEY}).status_code == 409
        assert api("admin", "POST", "/key-blacklist", {"key": KEY}).status_code == 204
        assert api("user", "GET", path).json()["items"] == []
        assert api("user", "POST", path, {"key": f"{KEY} another name"}).status_code == 403

    @pytest.mark.parametrize("key", ["", "hello", "ssh-dss " + "A" * 60, KEY + "\nssh-rsa AAAA", f'command="x" {KEY}'])
    def test_what_is_no_key_is_refused(self, api, key):
        assert api("user", "POST", f"/persons/{email('user')}/keys", {"key": key}).status_code == 400


class TestEvents:
    def test_every_write_is_one_with_its_result(self, api):
        api("user", "PATCH", SLICE, {"description": "x"})
        api("user", "DELETE", SLICE)
        items = api("user", "GET", "/events").json()["items"]
        assert [(e["who"], e["what"], e["target"], e["result"]) for e in items] == [
            (email("user"), "delete slice", "princeton_iias", "Denied"),
            (email("user"), "change slice", "princeton_iias", "ok"),
        ]
        assert "a PI of the site" in items[0]["detail"]
        assert items[0]["source"]

    def test_others_see_those_of_their_slices(self, api):
        api("user", "PATCH", SLICE, {"description": "x"})
        api("admin", "PATCH", "/sites/mit", {"name": "MIT"})
        seen = {who: len(api(who, "GET", "/events").json()["items"]) for who in ROLES}
        assert seen == {"admin": 2, "pi": 1, "tech": 1, "user": 1, "outsider": 0}

    def test_the_stream_begins_after_what_one_has_seen(self, api):
        for text in "abc":
            api("user", "PATCH", SLICE, {"description": text})
        first = api("user", "GET", "/events").json()["items"][-1]["id"]
        text = api("user", "GET", "/events/stream?for_s=0", Last_Event_ID=str(first)).text
        assert [line for line in text.splitlines() if line.startswith("id: ")] == [
            f"id: {first + 1}",
            f"id: {first + 2}",
        ]
        assert "event: slice\ndata: {" in text
        assert "id: " not in api("user", "GET", "/events/stream?for_s=0").text
        assert api("", "GET", "/events/stream").status_code == 401

    def test_the_stream_has_what_comes_while_it_is_open(self, api):
        later = threading.Timer(0.3, lambda: api("user", "PATCH", SLICE, {"description": "late"}))
        later.start()
        text = api("pi", "GET", "/events/stream?for_s=1.5").text
        later.join()
        assert text.count("id: ") == 1

    def test_who_was_in_a_slice_sees_that_it_has_ended(self, api):
        with api.database.transaction() as tx:
            slices.delete(tx, "princeton_iias")
            end = events.add(tx, at=api.now[0], who="central", what="expire", kind="slice", target="princeton_iias")
            last_members.note(tx, end, [email("user")])
        for path in (SLICE, f"{SLICE}/nodes/n1.princeton.example/tags"):
            said = api("user", "GET", path)
            assert said.status_code == 404
            assert "of which you were a member, ended at 1970-01-12 13:46 UTC" in said.json()["sentence"], path
        said = api("outsider", "GET", SLICE).json()["sentence"]
        assert said == "There is no slice 'princeton_iias' that you may see; `vini slice` lists those that there are."
        seen = {who: [e["what"] for e in api(who, "GET", "/events").json()["items"]] for who in ("user", "outsider")}
        assert seen == {"user": ["expire"], "outsider": []}
        with api.database.transaction() as tx:
            events.forget(tx, api.now[0] + 1)
        assert "ended" not in api("user", "GET", SLICE).json()["sentence"]

    def test_who_was_in_a_slice_that_ended_is_told_nothing_else_of_another_of_its_name(self, api):
        with api.database.transaction() as tx:
            slices.delete(tx, "princeton_iias")
            end = events.add(tx, at=api.now[0], who="central", what="expire", kind="slice", target="princeton_iias")
            last_members.note(tx, end, [email("user")])
        assert api("pi", "POST", "/slices", {"name": "princeton_iias"}).status_code == 201
        said = api("user", "GET", SLICE).json()["sentence"]
        assert said == "There is no slice 'princeton_iias' that you may see; `vini slice` lists those that there are."

    def test_the_stream_has_also_what_becomes_visible_after_a_later_one(self, api, another):
        if api.database.is_sqlite:
            pytest.skip("SQLite has one writer")
        begin = api("admin", "GET", "/events").json()["items"]
        assert not begin
        with another().transaction() as tx:
            first = events.add(tx, at=api.now[0] - 3600.0, who="x", what="late", kind="slice", target="princeton_iias")
            api("user", "PATCH", SLICE, {"description": "x"})
            (line,) = _ids(api("admin", "GET", "/events/stream?for_s=0", Last_Event_ID="0").text)
        assert line == first + 1
        assert _ids(api("admin", "GET", "/events/stream?for_s=0", Last_Event_ID=str(line)).text) == [first]

    def test_a_filter_that_is_misspelt_does_not_list_all(self, api):
        for path, knows in (("/events?traget=x", "limit, cursor, who, what, kind, target"), ("/me?x", "none")):
            said = api("user", "GET", path)
            assert (said.status_code, said.json()["error"]) == (400, "Invalid")
            assert f"it knows {knows}." in said.json()["sentence"]

    def test_they_are_forgotten_when_asked(self, api):
        api("user", "PATCH", SLICE, {"description": "x"})
        with api.database.transaction() as tx:
            assert events.forget(tx, api.now[0] + 1) == 1
            assert events.some(tx, None, 1)[0] == []


def _ids(stream: str) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in stream.splitlines() if line.startswith("id: ")]


class TestBadInput:
    @pytest.mark.parametrize(
        "content, says",
        [
            (b"", "truncated"),
            (b"{", "truncated"),
            (b"[]", "Expected `object`"),
            (b'{"login_base": 7}', "Expected `str`"),
            (b'{"login_base": "x", "max_slices": true}', "got `bool`"),
            (b'{"login_base": "x", "max_slices": -1}', ">= 0"),
            (b'{"login_base": "x", "max_slices": 99999999999}', "<= 2147483647"),
            (b'{"login_base": "x", "latitude": 91}', "<= 90"),
            (b'{"login_base": "X Y"}', r"^The body .* login_base: A site's name has 1 to 20 small letters"),
            (b'{"login_base": "x", "nmae": "y"}', "unknown field `nmae`"),
            (b'{"login_base": "x", "name": "a\\u0000b"}', r"^The body .* name: This is to be one line"),
            (b'{"login_base": "x", "name": "\xff"}', "UTF-8"),
            (b'{"login_base": "x", "cores": NaN}', "malformed"),
            (b'{"nmae": ' + b"[" * 100_000, "unknown field|recursion|depth"),
            (b"[" * 100_000, "got `array`"),
        ],
    )
    def test_a_body_that_makes_no_sense_says_where(self, api, content, says):
        headers = {"Authorization": f"Bearer {api.secrets['admin']}"}
        answer = api.http.post("/v1/sites", content=content, headers=headers)
        assert answer.status_code == 400
        told = answer.json()
        assert (told["error"], bool(told["mistakes"])) == ("Invalid", True)
        assert re.search(says, told["sentence"], re.IGNORECASE), told

    def test_a_name_that_is_none_is_answered_by_what_one_looks_like(self, api):
        told = [
            api("pi", "GET", "/slices/square").json(),
            api("pi", "POST", "/slices", {"name": "square"}).json(),
        ]
        for answer in told:
            assert "A slice's name is its site's, '_', and a word" in answer["sentence"], answer
            assert "a-z" not in answer["sentence"] + answer["mistakes"][0]["what"], answer

    def test_a_body_that_is_too_large_is_not_read_to_its_end(self, api):
        answer = api("admin", "POST", "/sites", {"login_base": "x", "name": "y" * (1 << 20)})
        assert answer.status_code == 413

    @pytest.mark.parametrize(
        "path, status",
        [
            ("/sites?limit=0", 400),
            ("/sites?limit=many", 400),
            ("/events?cursor=x", 400),
            ("/events?cursor=99999999999999999999", 400),
            ("/sites/No%00pe", 400),
            ("/nothing", 404),
            ("/sites/", 404),
            ("/sites?cursor=%00", 400),
            ("/keys/99999999999999999999", 405),
        ],
    )
    def test_parameters_that_make_no_sense_are_told_in_the_same_shape(self, api, path, status):
        answer = api("admin", "GET", path)
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "sentence", "mistakes"}

    @pytest.mark.parametrize("header", ["", "Bearer", "Basic dXNlcjpwdw==", "Bearer \xff\xfe", "Bearer " + "x" * 5000])
    def test_tokens_that_are_none(self, api, header):
        headers = {"Authorization": header.encode("latin-1")}
        assert api.http.get("/v1/me", headers=headers).status_code == 401

    def test_an_unforeseen_error_is_a_sentence_too(self, api, monkeypatch):
        monkeypatch.setattr("vini.store.sites.get", lambda *_, **__: 1 / 0)
        answer = api("admin", "GET", "/sites/princeton")
        assert answer.status_code == 500
        assert "bug in VINI (ZeroDivisionError)" in answer.json()["sentence"]

    def test_a_database_that_is_gone_is_a_503(self, api, monkeypatch):
        from vini.store.database import DatabaseError

        def refuse(*_, **__):
            raise DatabaseError("The database refused; see that it runs.")

        monkeypatch.setattr("vini.store.sites.get", refuse)
        answer = api("admin", "PATCH", "/sites/princeton", {"name": "x"})
        assert (answer.status_code, answer.json()["error"]) == (503, "DatabaseError")


def test_the_description_is_complete(api):
    document = api("", "GET", "/openapi.json").json()
    operations = [o for path in document["paths"].values() for o in path.values()]
    ids = [o["operationId"] for o in operations]
    assert len(ids) == len(set(ids)) > 40
    for operation in operations:
        assert operation["summary"].endswith((".", ";", ":")) or operation["description"]
        assert operation["tags"]
        assert {"400", "401"} <= operation["responses"].keys()
        assert "422" not in operation["responses"]
    text = str(document)
    for name in ("Fault", "Site", "Page_Slice_", "NodeRow", "Event"):
        assert name in document["components"]["schemas"], name
    assert "#/$defs" not in text


def test_every_action_of_the_rules_is_asked_for_somewhere():
    """A rule that nobody asks protects nothing."""
    from pathlib import Path

    import vini.central

    text = "".join(p.read_text() for p in Path(vini.central.__file__).parent.rglob("*.py"))
    asked = set(re.findall(r'"((?:[a-z]+ )*[a-z]+)"', text))
    dynamic = {a for a in ACTIONS if a.startswith(("grant ", "see "))} | {"use slice", "enter slice"}
    assert set(ACTIONS) - asked - dynamic == set()


def test_the_reference_has_every_request_and_every_rule(api):
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/reference/rest-api.md").read_text()
    for path, operations in api.app.openapi()["paths"].items():
        for method in operations:
            assert f"| `{method.upper()} {path}` |" in page
    for action, rule in ACTIONS.items():
        assert f"| {action} | {rule.scope} | {', '.join(rule.who)} |" in page
    for _, status, kind in KINDS:
        assert re.search(rf"\| {status} \| .*`{kind}`", page), (status, kind)


def test_two_who_send_the_same_at_once_get_one_answer(api):
    """Of two with one Idempotency-Key the second waits for the first."""
    both = threading.Barrier(2)
    answers = []

    def send() -> None:
        both.wait(5)
        answers.append(api("pi", "POST", "/slices", {"name": "princeton_new"}, Idempotency_Key="k"))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    with api.database.reading() as tx:
        made, _ = events.some(tx, None, 10, what="create slice")
    assert len(made) == 1


def test_who_asks_for_too_much_is_no_error_in_the_centrals_log(caplog: pytest.LogCaptureFixture) -> None:
    assert faults._ours(None, CapacityError("The site is full.")).status_code == 507  # type: ignore[arg-type]
    assert caplog.records == []
    faults._ours(None, DatabaseError("The database is away."))  # type: ignore[arg-type]
    assert [r.levelname for r in caplog.records] == ["ERROR"]


def test_every_list_comes_in_pages(api):
    """Also one that is short: who asks for pages need not know which are."""
    described = api.app.openapi()
    lists = 0
    for path, ways in described["paths"].items():
        answer = ways.get("get", {}).get("responses", {}).get("200", {}).get("content", {}).get("application/json", {})
        if "Page" in str(answer.get("schema", {})):
            lists += 1
            assert {"limit", "cursor"} <= {p["name"] for p in ways["get"]["parameters"] if p["in"] == "query"}, path
    assert lists >= 15


def test_the_pages_of_a_short_list_have_each_item_once(api):
    for name in ("c", "a", "b", "d", "e"):
        assert api("admin", "POST", "/initscripts", {"name": name, "script": "#!/bin/sh\n"}).status_code == 200
    names, cursor = [], ""
    while True:
        page = api("admin", "GET", f"/initscripts?limit=2&cursor={cursor}").json()
        assert len(page["items"]) <= 2
        names += [item["name"] for item in page["items"]]
        if not (cursor := page["next"]):
            break
    assert names == ["a", "b", "c", "d", "e"]


def test_who_has_no_role_gets_the_first_from_an_admin_so_no_pi_can_take_a_say_over_him(api):
    eve = "/persons/eve@x.example"
    assert api("admin", "POST", "/persons", {"email": "eve@x.example"}).status_code == 201
    assert api("pi", "PUT", f"{SLICE}/members/eve@x.example").is_success
    said = api("outsider", "POST", f"{eve}/roles", {"role": "user", "site": "mit"})
    assert said.status_code == 403 and "an admin gives the first" in said.json()["sentence"]
    assert api("outsider", "PATCH", eve, {"enabled": False}).status_code == 404
    assert api("admin", "POST", f"{eve}/roles", {"role": "user", "site": "princeton"}).is_success
    assert api("outsider", "POST", f"{eve}/roles", {"role": "user", "site": "mit"}).is_success
    said = api("pi", "PATCH", eve, {"enabled": False})
    assert said.status_code == 403 and "may not disable 'eve@x.example', who also has a role at mit" in said.text


def test_who_has_an_address_that_no_new_account_may_have_still_logs_in(api):
    older = "a/b?c#d%e@x.example"
    assert api("admin", "POST", "/persons", {"email": older, "password": PASSWORD}).status_code == 400
    with api.database.transaction() as tx:
        persons.add(tx, older, password_hash=HASH)
    made = api("", "POST", "/sessions", {"email": older, "password": PASSWORD})
    assert made.status_code == 201
    assert api(made.json()["secret"], "GET", "/me").json()["email"] == older
    assert api("", "POST", "/sessions", {"email": "ada", "password": PASSWORD}).status_code == 400
