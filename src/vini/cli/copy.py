"""Files to and from slivers: `vini cp`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath

import click

from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.cli.out import count, dump, json_option, line, note, table
from vini.cli.slivers import inside
from vini.client import Slices, connect
from vini.client.archive import Copied, pack, unpack
from vini.model import Topology, Value, ViniError

_AT_ONCE = 8
_WORDS_S = 2.0  # who sent nothing, or nonsense, may take so long to say why
_OUR_DOING = (0, -9, 137, -13, 141)  # exit codes where it ended well, or by our signal
_IS_DIRECTORY = 'cd "$HOME" 2>/dev/null; [ -d "$1" ]'
_TAKE = 'cd "$HOME" 2>/dev/null; mkdir -p -- "$1" && cd -- "$1" && exec tar -xof -'
_GIVE = 'cd "$HOME" 2>/dev/null; cd -- "$1" && exec tar -cf - -- "$2"'


class _Result(Value, frozen=True):
    """How it went with one sliver."""

    sliver: str
    copied: Copied = Copied()
    error: str = ""


@click.command("cp", short_help="Copy files to or from one sliver, or (--all) all of a slice.")
@slice_option
@click.option(
    "--all", "all_", is_flag=True, help="To or from every sliver, switches excepted; its path is then `:PATH`."
)
@click.argument("sources", nargs=-1, required=True)
@click.argument("destination")
@json_option
def cp_command(slice_: str | None, all_: bool, sources: tuple[str, ...], destination: str, as_json: bool) -> None:
    """Copy files and directories: `vini cp trace.py denver:/tmp/`, `vini cp denver:/var/log/x.log .`.

    A path in a sliver is SLIVER:PATH, from the home of its root.  To all: `vini cp --all trace.py :/tmp/`; from all:
    `vini cp --all :/tmp/result results`, which makes results/denver/result and so on.
    """
    client = connect()
    topology = the_slice(client, slice_)
    everyone = [n for n, s in topology.slivers.items() if s.mode != "switch"]
    to, path = _split(destination)
    if to is not None:
        if any(_split(s)[0] is not None for s in sources):
            raise click.UsageError("One side is a sliver, the other this machine: `vini cp FILE SLIVER:PATH`.")
        slivers = _slivers(topology, to, all_, everyone)
        files = {Path(s).absolute().name or "root": Path(s) for s in sources}
        results = _each(slivers, lambda sliver: _send(client, topology, sliver, files, path))
    else:
        if len(sources) != 1 or (found := _split(sources[0]))[0] is None:
            raise click.UsageError("Name a sliver on one side: `vini cp FILE SLIVER:PATH`, `vini cp SLIVER:PATH FILE`.")
        slivers = _slivers(topology, found[0] or "", all_, everyone)
        results = _each(
            slivers, lambda s: _fetch(client, topology, s, found[1], _target(destination, found[1], s, all_))
        )
    _show(results, as_json)
    raise click.exceptions.Exit(1 if any(r.error or r.copied.left_out for r in results) else 0)


def _split(word: str) -> tuple[str | None, str]:
    """Sliver and path; None: a path of this machine, as is one with a slash before its first colon."""
    before, colon, path = word.partition(":")
    return (before, path or ".") if colon and "/" not in before else (None, word)


def _slivers(topology: Topology, named: str, all_: bool, everyone: Sequence[str]) -> Sequence[str]:
    if all_ == bool(named):
        raise click.UsageError("Name a sliver, `denver:/tmp/`, or give --all and only the path, `:/tmp/`.")
    return everyone if all_ else [the_sliver(topology, named)]


def _each(slivers: Sequence[str], work: Callable[[str], Copied]) -> list[_Result]:
    def one(sliver: str) -> _Result:
        try:
            return _Result(sliver, work(sliver))
        except ViniError as e:
            return _Result(sliver, error=str(e))

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(one, slivers))


def _send(client: Slices, topology: Topology, sliver: str, files: dict[str, Path], path: str) -> Copied:
    """By tar(1) in the sliver, so that its own links and mounts mean there what they mean."""
    is_directory = path.endswith("/") or len(files) > 1 or _run(client, topology, sliver, _IS_DIRECTORY, path) == 0
    where = PurePosixPath(path)
    if not is_directory:
        files = {where.name: next(iter(files.values()))}
    directory = path if is_directory else str(where.parent)
    with tempfile.TemporaryFile() as said:
        child = _start(client, topology, sliver, _TAKE, directory, stdin=subprocess.PIPE, stderr=said)
        assert child.stdin is not None
        try:
            with child.stdin:
                copied = pack(files, child.stdin)
        except BrokenPipeError:
            copied = Copied()
        except OSError as e:
            child.kill()
            raise ViniError(f"{e.filename or 'A file'} can't be read: {e.strerror or e}.") from e
        finally:
            code = child.wait()
        _check(code, said, sliver)
    return copied


def _fetch(client: Slices, topology: Topology, sliver: str, path: str, target: Path) -> Copied:
    where = PurePosixPath(path)
    if not where.name or where.name == "..":
        raise ViniError(f"{path!r} has no name; name a file or a directory of the sliver.")
    with tempfile.TemporaryFile() as said:
        child = _start(
            client, topology, sliver, _GIVE, str(where.parent), where.name, stdout=subprocess.PIPE, stderr=said
        )
        assert child.stdout is not None
        failure: ViniError | None = None
        copied = Copied()
        try:
            copied = unpack(child.stdout, where.name, target)
        except ViniError as e:
            failure = e
        finally:
            child.stdout.close()
            code = _ended(child) if failure else child.wait()
        if failure and code in _OUR_DOING:
            raise failure
        _check(code, said, sliver)
    return copied


def _ended(child: subprocess.Popen[bytes]) -> int:
    """Its exit code; it may say first what is wrong, for a moment."""
    with suppress(subprocess.TimeoutExpired):
        return child.wait(_WORDS_S)
    child.kill()
    return child.wait()


def _target(destination: str, path: str, sliver: str, all_: bool) -> Path:
    to, name = Path(destination), PurePosixPath(path).name
    if all_:
        try:
            (to / sliver).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ViniError(f"{to / sliver} can't be made: {e.strerror}.") from e
        return to / sliver / name
    return to / name if to.is_dir() or destination.endswith("/") else to


def _run(client: Slices, topology: Topology, sliver: str, script: str, *words: str) -> int:
    return _start(client, topology, sliver, script, *words, stderr=subprocess.DEVNULL).wait()


def _start(
    client: Slices, topology: Topology, sliver: str, script: str, *words: str, **streams: object
) -> subprocess.Popen[bytes]:
    command, environment = inside(client, topology, sliver, ("sh", "-c", script, "sh", *words))
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **streams}
    return subprocess.Popen(command, env=environment, **given)  # type: ignore[call-overload,no-any-return]


def _check(code: int, said: object, sliver: str) -> None:
    if code == 0:
        return
    said.seek(0)  # type: ignore[attr-defined]
    first = said.read(65536).decode(errors="replace").strip().splitlines()[:1] or [f"exit code {code}"]  # type: ignore[attr-defined]
    raise ViniError(f"In sliver {sliver!r}: {first[0]}")


def _show(results: Sequence[_Result], as_json: bool) -> None:
    if as_json:
        dump([{"sliver": r.sliver, "files": r.copied.files, "bytes": r.copied.bytes, "left_out": r.copied.left_out,
               "error": r.error} for r in results])  # fmt: skip
        return
    for r in results:
        for name in r.copied.left_out:
            note(f"{r.sliver}: left out {name}")
    if len(results) == 1:
        (only,) = results
        if only.error:
            raise ViniError(only.error)
        line(f"{count(only.copied.files, 'file')}, {only.copied.bytes} bytes.")
        return
    rows = [(r.sliver, str(r.copied.files), str(r.copied.bytes), r.error) for r in results]
    table(("SLIVER", "FILES", "BYTES", "ERROR"), rows, right=("FILES", "BYTES"))
