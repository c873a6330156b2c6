"""Compiling what nobody trusts: the source sees no file of this machine, and ends in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_place import eventually

from vini.model import DriverError, Unsupported
from vini.node import compile as compiling
from vini.node.compile import compile_program

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]
HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
BODY = 'SEC("xdp") int f(struct xdp_md *c) { return XDP_PASS; }\n'


@pytest.fixture
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our headers, in a directory that only root can enter; a cache of the test's own."""
    monkeypatch.setenv("VINI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "headers").mkdir(mode=0o700)
    (tmp_path / "headers" / "runtime.h").write_text("#define OURS 7\n")
    return tmp_path / "headers"


def test_a_program_becomes_an_object(include: Path) -> None:
    text = HEAD + '#include <stdbool.h>\n#include <linux/ip.h>\n#include "runtime.h"\nint x[OURS];\n' + BODY
    assert compile_program(text, "fw.c", "tc", include).startswith(b"\x7fELF")


def test_the_hook_is_told_by_a_macro(include: Path) -> None:
    text = HEAD + "#ifndef VINI_XDP\n#error this is tc\n#endif\n" + BODY
    assert compile_program(text, "fw.c", "xdp", include)
    with pytest.raises(DriverError, match="fw.c:4:2: this is tc"):
        compile_program(text, "fw.c", "tc", include)


def test_a_source_is_compiled_once_and_anew_when_anything_changes(include: Path) -> None:
    kept = compiling.Path(os.environ["VINI_CACHE"])
    first = compile_program(HEAD + BODY, "fw.c", "tc", include)
    one = set(kept.iterdir())
    assert compile_program(HEAD + BODY, "fw.c", "tc", include) == first
    assert set(kept.iterdir()) == one
    compile_program(HEAD + BODY, "fw.c", "xdp", include)
    (include / "runtime.h").write_text("#define OURS 8\n")
    compile_program(HEAD + BODY, "fw.c", "tc", include)
    assert len(set(kept.iterdir())) == 3


def test_mistakes_are_told_with_their_places(include: Path) -> None:
    with pytest.raises(DriverError) as refused:
        compile_program(HEAD + "int f(void) { return one; }\nint g(void) { two(; }\n", "my fw.c", "tc", include)
    first, *rest = str(refused.value).splitlines()
    assert first == "clang refused my fw.c:"
    assert rest[0].startswith("my fw.c:3:22: use of undeclared identifier 'one'")
    assert rest[-1].startswith("my fw.c:4:")


SECRETS = ("/etc/shadow", "/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/1/environ", "/root/.bashrc",
           "/dev/stdin", "/dev/zero", "/var/lib/dpkg/status", "/run/secret", "/usr/include/stdio.h")  # fmt: skip


@pytest.mark.parametrize("path", SECRETS)
def test_files_of_the_machine_are_not_there(include: Path, path: str) -> None:
    secret = Path("/run/secret")
    if path == str(secret):
        secret.write_text("int secret;\n")
    try:
        with pytest.raises(DriverError, match="file not found"):
            compile_program(f'#include "{path}"\n', "fw.c", "tc", include)
        with pytest.raises(DriverError, match="Could not find incbin file"):
            compile_program(f'{HEAD}{BODY}asm(".incbin \\"{path}\\"");\n', "fw.c", "tc", include)
        found = f'#if __has_include("{path}")\n#error there\n#endif\n'
        assert compile_program(HEAD + BODY + found, "fw.c", "tc", include)
    finally:
        if path == str(secret):
            secret.unlink()


@pytest.mark.parametrize("header", ["stdio.h", "sys/socket.h", "../linux/bpf.h/../../../etc/passwd", "vini/x.h"])
def test_other_headers_are_refused_and_those_that_are_not_are_named(include: Path, header: str) -> None:
    with pytest.raises(DriverError, match=r"file not found \(a program can include linux/\*, bpf/\*, asm/\*"):
        compile_program(f"#include <{header}>\n", "fw.c", "tc", include)


HUGE = {
    "macros": ("".join(f"#define A{i} A{i + 1} A{i + 1}\n" for i in range(40)) + "#define A40 1,\nint x[] = {A0};\n",
               "took more than"),
    "output": ("char x[1 << 28] = {1};\n", "made more than 8 MiB"),
    "repetition": ('asm(".rept 100000000\\n.quad 0\\n.endr");\n', "took more than"),
    "nesting": ("(" * 100_000, "bracket nesting level"),
    "itself": ('#include "fw.c"\n', "file not found"),
    "length": ("//" + "x" * (1 << 20), "a program may have 1048576"),
}  # fmt: skip


@pytest.mark.parametrize("what", HUGE)
def test_nothing_grows_beyond_measure(include: Path, what: str) -> None:
    text, told = HUGE[what]
    with pytest.raises(DriverError, match=told):
        compile_program(text, "fw.c", "tc", include)


def test_it_ends_in_time(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CPU_S", 1)
    monkeypatch.setattr(compiling, "MEMORY_BYTES", 8 << 30)
    with pytest.raises(DriverError, match="took more than 1 s of processor time"):
        compile_program(HUGE["macros"][0], "fw.c", "tc", include)


@pytest.mark.parametrize("name", ['a"\n#include "/etc/shadow', "a\\", "a\nb.c", "-o /etc/x"])
def test_a_name_is_only_a_name(include: Path, name: str) -> None:
    assert compile_program(HEAD + BODY, name, "tc", include)
    with pytest.raises(DriverError):
        compile_program("x", name, "tc", include)


def test_it_runs_as_nobody_alone_and_without_a_network() -> None:
    """The same sandbox, with a shell in place of clang."""
    plan = {
        "bind": [(p, p) for p in ("/usr/bin", "/usr/lib", "/usr/lib64") if Path(p).is_dir()],
        "link": [(str(Path(p).readlink()), p) for p in ("/bin", "/lib", "/lib64") if Path(p).is_symlink()],
        "copy": [], "cpu_s": 1, "memory_bytes": 1 << 30, "file_bytes": 1 << 16,
    }  # fmt: skip
    script = (
        "id -u; id -G; echo $$; ls /; touch /usr/bin/x || echo read-only; cat < /dev/tcp/127.0.0.1/1 || echo none;"
        " echo x > /tmp/x && echo own tmp; yes > /tmp/big; ls -s /tmp/big; ulimit -t"
    )
    argv = [sys.executable, "-I", "-S", str(compiling._SANDBOX), json.dumps(plan), "/usr/bin/bash", "-c", script]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert said[:3] == ["65534", "65534", "1"]
    assert set(said[3 : said.index("read-only")]) <= {"bin", "lib", "lib64", "tmp", "usr"}
    assert {"none", "own tmp", "64 /tmp/big", "1"} <= set(said)
    assert not Path("/tmp/big").exists()


def test_a_compiler_that_is_killed_leaves_nothing(include: Path) -> None:
    """The agent dies: clang's standard input ends with it, and its processor time is bounded."""
    with pytest.raises(DriverError):
        compile_program(HUGE["repetition"][0], "fw.c", "tc", include)
    assert eventually(lambda: not [p for p in Path("/proc").glob("[0-9]*/exe") if _is_clang_of_nobody(p)])


def _is_clang_of_nobody(exe: Path) -> bool:
    try:
        return "clang" in exe.readlink().name and exe.parent.stat().st_uid == 65534
    except OSError:
        return False


def test_a_node_without_a_compiler_says_what_it_needs(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda _: None)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    with pytest.raises(Unsupported, match="it needs clang .`apt-get install clang libbpf-dev`"):
        compile_program(HEAD, "fw.c", "tc", include)
