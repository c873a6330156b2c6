"""A user's C becomes an ELF object of eBPF programs: by clang, which runs as nobody and sees no file of this machine.

The source is not trusted, and clang is a large program: it runs in namespaces of its own with the headers of
`linux/`, `bpf/`, `asm/` and ours, 10 s of processor time and 1 GiB of memory (sandbox.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Literal

from vini.model import DriverError, Unsupported

CPU_S, MEMORY_BYTES, OUTPUT_BYTES, SOURCE_BYTES = 10, 1 << 30, 8 << 20, 1 << 20
_PATIENCE_S = 120  # of the whole; a busy machine gives its 10 s of processor time slowly
_FLAGS = (
    "-x", "c", "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-ffreestanding", "-fno-stack-protector", "-w",
    "-fno-color-diagnostics", "-fno-caret-diagnostics", "-fno-crash-diagnostics", "-ferror-limit=20",
    "-fdebug-compilation-dir=.", "-nostdinc", "-isystem", "/include", "-isystem", "/clang", "-I", "/program",
)  # fmt: skip
_SANDBOX = Path(__file__).with_name("sandbox.py")
_ERROR = re.compile(r"^(.+?:\d+:\d+): (?:fatal )?error: (.*)$", re.MULTILINE)
_OWN_HEADERS = ("stdbool.h", "stddef.h", "stdint.h")  # clang's own: types only


def compile_program(source: str, name: str, hook: Literal["tc", "xdp"], include: Path) -> bytes:
    """The ELF object; `name` stands for the source in messages, `include` holds our headers.

    VINI_XDP is defined for the hook "xdp".  DriverError with clang's words where the source is wrong; Unsupported
    where this machine lacks clang or headers.  A source is compiled once: the object stays in VINI_CACHE
    (/var/cache/vini).
    """
    if len(source) > SOURCE_BYTES:
        raise DriverError(f"{name} has {len(source)} characters; a program may have {SOURCE_BYTES}.")
    compiler, headers = _compiler(), sorted(include.glob("*.h"))
    flags = (*_FLAGS, *(["-DVINI_XDP"] if hook == "xdp" else []), "-c", "-", "-o", "-")
    digest = blake2b(f"{name}\0{flags}\0{_version(compiler, compiler.stat().st_mtime_ns)}\0".encode(), digest_size=16)
    for part in (source.encode(), *(p.name.encode() + b"\0" + p.read_bytes() for p in headers)):
        digest.update(len(part).to_bytes(8, "big") + part)
    kept = Path(os.environ.get("VINI_CACHE", "/var/cache/vini")) / f"program-{digest.hexdigest()}.o"
    if kept.exists():
        return kept.read_bytes()
    elf = _compiled(f'#line 1 "{_quoted(name)}"\n{source}', name, compiler, headers, flags)
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    new = kept.with_name(f"{kept.name}.{os.getpid()}")  # renamed when whole: others may compile it too
    new.write_bytes(elf)
    new.replace(kept)
    return elf


def _compiled(source: str, name: str, compiler: Path, headers: Sequence[Path], flags: Sequence[str]) -> bytes:
    plan = {
        "bind": _binds(compiler),
        "link": [(str(Path(p).readlink()), p) for p in _top() if Path(p).is_symlink()],
        "copy": [(str(p), f"/program/{p.name}") for p in headers] + _clang_headers(compiler),
        "cpu_s": CPU_S,
        "memory_bytes": MEMORY_BYTES,
        "file_bytes": OUTPUT_BYTES,
    }
    argv = [sys.executable, "-I", "-S", str(_SANDBOX), json.dumps(plan), str(compiler), *flags]
    with _memory("object") as out, _memory("words") as words:  # files: a pipe has no limit
        try:
            code = subprocess.run(
                argv, input=source.encode(), stdout=out, stderr=words, timeout=_PATIENCE_S, start_new_session=True
            ).returncode
        except subprocess.TimeoutExpired as e:
            raise DriverError(f"Compiling {name} took more than {_PATIENCE_S} s; make it simpler.") from e
        out.seek(0)
        words.seek(0)
        if code == 0:
            return out.read()
        raise DriverError(_refusal(name, code, words.read().decode(errors="replace")))


def _refusal(name: str, code: int, words: str) -> str:
    """What the person who wrote the source can act on."""
    if code == 128 + signal.SIGXCPU or code == 128 + signal.SIGKILL:
        return f"Compiling {name} took more than {CPU_S} s of processor time; make it simpler."
    if code == 128 + signal.SIGXFSZ or "File too large" in words:
        return f"Compiling {name} made more than {OUTPUT_BYTES >> 20} MiB; make it smaller."
    if "out of memory" in words or "std::bad_alloc" in words:
        return f"Compiling {name} took more than {MEMORY_BYTES >> 30} GiB of memory; make it simpler."
    errors = list(dict.fromkeys(_ERROR.findall(words)))
    if not errors:
        last = words.strip().splitlines()[-1:] or ["it said nothing"]
        return f"clang broke on {name} (exit code {code}): {last[0]}"
    lines = [f"{place}: {_explained(what)}" for place, what in errors[:10]]
    more = [f"and {len(errors) - 10} more"] if len(errors) > 10 else []
    return "\n".join([f"clang refused {name}:", *lines, *more])


def _explained(what: str) -> str:
    if what.endswith("file not found"):
        return f"{what} (a program can include linux/*, bpf/*, asm/*, {', '.join(_OWN_HEADERS)} and runtime.h)"
    return what


def _quoted(name: str) -> str:
    return re.sub(r"[^\w .,:;+/()@=-]", "_", name)


def _memory(name: str) -> BinaryIO:
    return open(os.memfd_create(name), "w+b")  # noqa: SIM115,PTH123  closed by the caller's `with`


# --- what the sandbox holds -----------------------------------------------------------------------


def _top() -> list[str]:
    return [p for p in ("/bin", "/lib", "/lib32", "/lib64") if Path(p).exists()]


def _binds(compiler: Path) -> list[tuple[str, str]]:
    """Programs and libraries, so that clang runs, and three directories of headers; no more of the machine."""
    of_clang = str(compiler.parent.parent)
    system = ["/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", *(p for p in _top() if not Path(p).is_symlink())]
    shown = [p for p in system if Path(p).is_dir() and not Path(p).is_symlink()]
    if not any(of_clang.startswith(p + "/") for p in shown):
        shown.append(of_clang)
    return [(p, p) for p in shown] + [(str(p), f"/include/{p.name}") for p in _headers()]


@cache
def _headers() -> tuple[Path, ...]:
    usr = Path("/usr/include")
    asm = next((p for p in (usr / "asm", *usr.glob("*-linux-gnu*/asm")) if p.is_dir()), None)
    if asm is None or not (usr / "linux" / "bpf.h").exists():
        raise Unsupported("This node can't compile programs: it needs linux/bpf.h (`apt-get install linux-libc-dev`).")
    if not (usr / "bpf" / "bpf_helpers.h").exists():
        raise Unsupported("This node can't compile programs: it needs bpf_helpers.h (`apt-get install libbpf-dev`).")
    generic = usr / "asm-generic"
    return (usr / "linux", usr / "bpf", asm, *([generic] if generic.is_dir() else []))


def _clang_headers(compiler: Path) -> list[tuple[str, str]]:
    found = sorted((compiler.parent.parent / "lib").glob("clang/*/include/stdbool.h"))
    found += sorted(compiler.parent.parent.glob("lib*/clang/*/include/stdbool.h"))
    if not found:
        return []
    parts = [p.name for p in found[0].parent.glob("__std*.h")]  # what those are made of
    return [(str(found[0].with_name(n)), f"/clang/{n}") for n in (*_OWN_HEADERS, *parts)]


def _compiler() -> Path:
    found = shutil.which("clang") or next(iter(sorted(map(str, Path("/usr/bin").glob("clang-[0-9]*")))), None)
    if found is None:
        raise Unsupported("This node can't compile programs: it needs clang (`apt-get install clang libbpf-dev`).")
    return Path(found).resolve()


@cache
def _version(compiler: Path, changed_ns: int) -> str:  # noqa: ARG001  another clang at the same path has another time
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
