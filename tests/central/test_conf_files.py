"""Conf files from the central's side: whose they are, to which nodes they go, and what those have of them."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import older
import pytest
from fake_agents import QUICK, central, eventually, no_engine, node
from msgspec.structs import replace
from testbed_api import Api, populated

from vini import bus
from vini.central.batch import Batch
from vini.central.conf_files import Configuring, node_file, version
from vini.central.delivery import FilesThere, Lack
from vini.central.desk import StoredDesk
from vini.node.files import permit
from vini.node.files.permit import Permit
from vini.rules.conf_files import MOST_BYTES, FileThere
from vini.store import conf_files, events
from vini.store.database import Database

N1, N2 = "n1.princeton.example", "n2.princeton.example"
PATH = "/etc/vini/conf.d/a.conf"
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def api(database: Database) -> Api:
    return populated(database)


def put(api: Api, path: str = PATH, text: str = "one", **more: Any) -> dict[str, Any]:
    answer = api("admin", "POST", "/conf-files", {"path": path, "text": text, **more})
    assert answer.is_success, answer.text
    return answer.json()


def desk(api: Api) -> StoredDesk:
    return StoredDesk(api.database, lambda: api.now[0])


def wanted(api: Api, name: str) -> dict[str, str]:
    (files,) = desk(api).conf_files([name])
    return {f.path: f.text for f in files}


def there(api: Api, name: str, who: str = "admin") -> dict[str, tuple[str, str]]:
    items = api(who, "GET", f"/nodes/{name}/conf-files-there").json()["items"]
    return {row["path"]: (row["state"], row["why"]) for row in items}


def told(api: Api, name: str, *rows: FileThere) -> None:
    desk(api).reported([(name, FilesThere(rows))])


def test_there_is_one_of_a_path_for_the_same_nodes(api: Api) -> None:
    first = put(api)
    again = put(api, text="two", postinstall_cmd="true", mode=0o600)
    assert again == {**first, "text": "two", "postinstall_cmd": "true", "mode": 0o600}
    own = put(api, text="own", node=N1)
    assert own["id"] != first["id"]
    assert [f["text"] for f in api("admin", "GET", "/conf-files").json()["items"]] == ["two", "own"]


@pytest.mark.parametrize("path", ["/etc/../passwd", "/etc//a", "/etc/a/", "/", "//a", "/a/./b", "/" + "x" * 256])
def test_a_path_by_which_others_mean_another_file_is_refused(api: Api, path: str) -> None:
    answer = api("admin", "POST", "/conf-files", {"path": path, "text": ""})
    assert answer.status_code == 400, answer.text


def test_what_is_no_path_at_all_is_told_what_one_is(api: Api) -> None:
    answer = api("admin", "POST", "/conf-files", {"path": "motd", "text": ""})
    assert answer.status_code == 400 and "begins with /" in answer.json()["sentence"]


@pytest.mark.parametrize("more", [{"mode": 0o4755}, {"postinstall_cmd": "a\0b"}, {"node": N1, "nodegroup": "g"}])
def test_what_no_node_would_take_is_refused(api: Api, more: dict[str, Any]) -> None:
    assert api("admin", "POST", "/conf-files", {"path": PATH, "text": "", **more}).status_code == 400


def test_all_together_are_not_larger_than_a_message_takes(api: Api, database: Database) -> None:
    text, commands = "x" * 65_536, dict.fromkeys(("preinstall_cmd", "postinstall_cmd", "error_cmd"), "y" * 8192)
    most = MOST_BYTES // (len(text) + 3 * 8192 + 20)
    with database.transaction() as tx:
        for i in range(most):
            conf_files.put(tx, f"/a/{i}", text, **commands)
    answer = api("admin", "POST", "/conf-files", {"path": PATH, "text": text, **commands})
    assert answer.status_code == 400 and "vini conffile remove" in answer.json()["sentence"]
    assert len(api("admin", "GET", "/conf-files").json()["items"]) == most


def test_a_command_is_not_longer_than_a_line_of_a_shell_should_be(api: Api) -> None:
    for command, is_fit in (("y" * 8192, True), ("y" * 8193, False), ("ä" * 4097, False)):
        answer = api("admin", "POST", "/conf-files", {"path": PATH, "text": "", "error_cmd": command})
        assert answer.is_success == is_fit, answer.text


async def test_what_fits_in_no_message_is_not_the_agents_fault(tmp_path: Path) -> None:
    async with central(tmp_path) as c:
        c.desk.files = {"one": (file(tmp_path / "a", "x" * (17 << 20)),)}
        async with node(tmp_path / "n", c.admit("one")):
            await eventually(lambda: last(c, "one") == {"a": "failed"})
            assert "fit in a message" in c.desk.said("one", FilesThere)[-1].files[0].why


def test_texts_are_the_business_of_admins_and_of_those_who_run_the_machine(api: Api) -> None:
    put(api)
    for who, may_all, may_one in (
        ("admin", True, True), ("tech", False, True), ("pi", False, True), ("user", False, False),
        ("outsider", False, False),
    ):  # fmt: skip
        assert api(who, "GET", "/conf-files").is_success == may_all, who
        for path in (f"/nodes/{N1}/conf-files", f"/nodes/{N1}/conf-files-there"):
            assert api(who, "GET", path).is_success == may_one, who


def test_each_node_is_asked_for_its_own_and_for_no_others(api: Api) -> None:
    api("admin", "POST", "/tags", {"name": "arch", "value": "arm", "node": N2})
    api("admin", "POST", "/nodegroups", {"name": "arm", "tag": "arch", "value": "arm"})
    put(api, text="all")
    put(api, text="arm", nodegroup="arm")
    put(api, path="/b", text="own", node=N1)
    put(api, path="/off", enabled=False)
    assert wanted(api, N1) == {PATH: "all", "/b": "own"}
    assert wanted(api, N2) == {PATH: "arm"}
    both = desk(api).conf_files([N1, N2])
    assert version(both[0]) != version(both[1]) and version(()) == ""


def test_a_node_is_looked_at_whenever_its_files_may_be_others(api: Api) -> None:
    greeting = bus.Greeting("1", 1, N1, frozenset(), {})

    def looked(act: Any) -> bool:
        one = desk(api)
        (before,) = one.newer([Lack(N1, greeting)])
        act()
        (after,) = one.newer([Lack(N1, greeting, before.mark)])
        return after.files

    assert looked(lambda: put(api))
    assert looked(lambda: put(api, text="two"))
    assert looked(lambda: api("admin", "POST", "/tags", {"name": "arch", "value": "arm", "node": N1}))
    assert looked(lambda: api("admin", "POST", "/nodegroups", {"name": "arm", "tag": "arch", "value": "arm"}))
    assert looked(lambda: api("admin", "DELETE", "/nodegroups/arm"))
    number = api("admin", "GET", "/conf-files").json()["items"][0]["id"]
    assert looked(lambda: api("admin", "DELETE", f"/conf-files/{number}"))
    assert not looked(lambda: None)
    cpu = {"name": "cpu", "value": "3", "slice": "princeton_iias"}
    assert not looked(lambda: api("admin", "POST", "/tags", cpu))


def test_what_a_node_has_is_shown_with_why_and_since_when(api: Api, database: Database) -> None:
    made = put(api)
    assert there(api, N1)[PATH][0] == "asked"
    (files,) = desk(api).conf_files([N1])
    row = FileThere(PATH, files[0].version, "refused", "Not here.")
    gone = FileThere("/old", "", "left", "Changed.")
    told(api, N1, row, gone)
    assert there(api, N1) == {PATH: ("refused", "Not here."), "/old": ("left", "Changed.")}
    assert there(api, N2)[PATH][0] == "asked"
    since = api.now[0]
    api.now[0] += 60
    told(api, N1, row)
    items = api("tech", "GET", f"/nodes/{N1}/conf-files-there").json()["items"]
    assert items == [
        {"path": PATH, "state": "refused", "why": "Not here.", "at": since, "number": made["id"], "node": "",
         "nodegroup": ""}
    ]  # fmt: skip
    put(api, text="another")
    assert there(api, N1)[PATH][0] == "asked", "what it said was of another text"
    with database.reading() as tx:
        news = [e.detail for e in events.some(tx, None, 10, what="have conf files")[0]]
    assert news == ["/old: gone", f"{PATH}: refused (Not here.); /old: left (Changed.)"]


def test_the_same_told_again_is_no_event(api: Api, database: Database) -> None:
    row = FileThere(PATH, "v", "written")
    for _ in range(3):
        told(api, N1, row)
    with database.reading() as tx:
        assert len(events.some(tx, None, 10, what="have conf files")[0]) == 1


def test_a_node_that_changes_its_mind_again_and_again_is_one_event_a_minute(api: Api, database: Database) -> None:
    def news() -> list[str]:
        with database.reading() as tx:
            return [e.detail for e in events.some(tx, None, 100, what="have conf files")[0]]

    for i in range(20):
        told(api, N1, *(FileThere(f"/{n}" + "p" * 900, f"{i}", "left", "x" * 10_000) for n in range(10)))
    assert len(news()) == 1 and len(news()[0].encode()) <= 2048
    api.now[0] += 60
    told(api, N1, FileThere(PATH, "v", "written"))
    assert len(news()) == 2 and news()[0].endswith("; 19 changes before are not written down")
    assert there(api, N1) == {}, "what it has is known at once, event or not"


def test_a_node_that_lies_fills_nothing_and_one_that_is_gone_says_nothing(api: Api) -> None:
    told(api, N1, *(FileThere(f"/{i}", "", "left", "x" * 10_000 + "\0") for i in range(5000)))
    rows = there(api, N1)
    assert len(rows) == 1000 and all(len(why) <= 1000 and "\0" not in why for _, why in rows.values())
    told(api, "nobody", FileThere(PATH, "v", "written"))


def test_of_a_node_that_goes_nothing_is_kept(api: Api) -> None:
    told(api, N1, FileThere("/old", "", "left"))
    assert api("admin", "DELETE", f"/nodes/{N1}").is_success
    assert api("admin", "GET", f"/nodes/{N1}/conf-files-there").status_code == 404


def test_an_older_database_gets_what_is_new(database: Database) -> None:
    with database.transaction() as tx:
        conf_files.put(tx, PATH, "one")
        conf_files.put(tx, "/b", "other")
    with database.transaction() as tx:
        older.back_to(tx, "0020")
        same = "INSERT INTO conf_files (path, text, mode, owner, enabled) SELECT path, 'two', mode, owner, enabled"
        tx.exec_driver_sql(f"{same} FROM conf_files")
    database.migrate()
    with database.reading() as tx:
        file, other = conf_files.all(tx)
    assert (file.text, other.path) == ("one", "/b"), "of those that an older version made twice the first one stays"
    assert (file.group, file.postinstall_cmd, file.always_update) == ("root", "", False)


# --- over the hub, to real agents ----------------------------------------------------------------------


def file(at: Path, text: str = "one\n", **more: Any) -> bus.NodeFile:
    made = bus.NodeFile(str(at), text, "", owner=ME, group="root", **more)
    return replace(made, version=f"{hash(made)}")


def last(c: Any, name: str) -> dict[str, str]:
    said = c.desk.said(name, FilesThere)
    return {Path(f.path).name: f.state for f in said[-1].files} if said else {}


@pytest.mark.root
@pytest.mark.parametrize("engine", ["hub", "nats"])
async def test_each_node_gets_its_own_and_tells_what_became_of_it(tmp_path: Path, engine: str) -> None:
    if engine == "nats" and (why := no_engine()):
        pytest.skip(why)
    async with central(tmp_path, engine=engine) as c:
        one, two = c.admit("one"), c.admit("two")
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            permit.write(tmp_path / name, Permit((str(tmp_path / f"conf-{name}"),)))
        c.desk.files = {"one": (file(tmp_path / "conf-one/a"), file(tmp_path / "conf-two/b"))}
        async with node(tmp_path / "one", one), node(tmp_path / "two", two):
            await eventually(lambda: last(c, "one") == {"a": "written", "b": "refused"})
            assert (tmp_path / "conf-one/a").read_text() == "one\n"
            assert not (tmp_path / "conf-two").exists() and last(c, "two") == {}
            c.desk.files = {"one": (file(tmp_path / "conf-one/a", "two\n"),)}
            c.hub.wake(["one", "two"])
            await eventually(lambda: last(c, "one") == {"a": "written"})
            assert (tmp_path / "conf-one/a").read_text() == "two\n"
            (tmp_path / "conf-one/a").write_text("mine\n")
            await eventually(lambda: last(c, "one") == {"a": "kept"}, 30)
        heard = len(c.desk.said("one", FilesThere))
        async with node(tmp_path / "one", one) as again:
            await eventually(lambda: len(c.desk.said("one", FilesThere)) > heard)
            assert last(c, "one") == {"a": "kept"}
            (tmp_path / "conf-one/a").unlink()
            c.desk.files = {}
            c.hub.wake(["one"])
            await eventually(lambda: again.files.version() == "")
            await eventually(lambda: last(c, "one") == {})
            await asyncio.sleep(0)
        assert list((tmp_path / "conf-one").iterdir()) == []


async def test_a_node_of_an_older_version_is_told_of_as_such(tmp_path: Path) -> None:
    async with central(tmp_path) as c:
        c.desk.files = {"one": (file(tmp_path / "a"),)}
        async with node(tmp_path / "n", c.admit("one")) as n:
            n.answers._files = None
            c.desk.files = {"one": (file(tmp_path / "b"),)}
            c.hub.wake(["one"])
            await eventually(lambda: last(c, "one") == {"b": "refused"})
            assert "upgrade it" in c.desk.said("one", FilesThere)[-1].files[0].why


async def test_of_a_node_that_has_not_looked_yet_all_stays_as_it_was_known() -> None:
    """Its agent has just begun."""
    told: list[Any] = []
    row = FileThere(PATH, "v", "written")
    replies = [bus.ConfFiles((), 0, looked=False), bus.ConfFiles((row,), 7)]

    class Connection:
        node = "one"

        async def ask(self, _: bus.Request) -> bus.ConfFiles:
            return replies.pop(0)

    desks = SimpleNamespace(
        conf_files=Batch(lambda names: [()] * len(names)),
        reported=Batch(lambda said: told.extend(said) or [None] * len(said)),
    )
    greeting = bus.Greeting("1", 1, "one", frozenset(), {}, conf_files="v1")
    configuring = Configuring(Connection(), greeting, desks, QUICK)  # type: ignore[arg-type]
    running = asyncio.create_task(configuring.run())
    configuring.look()
    await eventually(lambda: len(replies) == 1)
    await asyncio.sleep(0)
    assert told == []
    configuring.changed(7)
    await eventually(lambda: told == [("one", FilesThere((row,)))])
    running.cancel()


def test_another_version_of_a_file_is_one_whatever_of_it_is_another(database: Database) -> None:
    with database.transaction() as tx:
        one = conf_files.put(tx, PATH, "one")
    seen = {node_file(one).version}
    for change in (
        {"text": "two"}, {"mode": 0o600}, {"owner": "x"}, {"group": "x"}, {"preinstall_cmd": "x"},
        {"postinstall_cmd": "x"}, {"error_cmd": "x"}, {"ignore_cmd_errors": True}, {"always_update": True},
    ):  # fmt: skip
        version_ = node_file(replace(one, **change)).version
        assert version_ not in seen, change
        seen.add(version_)
