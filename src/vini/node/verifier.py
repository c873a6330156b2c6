"""The verifier's refusal of a program, as a sentence with the line of the user's source that it is about, or of an
object file the instruction.

The log is that of bpf(2), BPF_PROG_LOAD: each instruction, before it the line of C that it comes from, and the reason
last.  Linux 6.9 and newer say `; text @ file:line`, older ones only `; text`.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from vini.elf import Elf
from vini.node import linked

_PLACED = re.compile(r"^; (.*?) ?@ (\S+?):(\d+)$")
_INSTRUCTION = re.compile(r"^(\d+): \([0-9a-f]{2}\) (.*?)\s*(?:;.*)?$")
_END = re.compile(r"^(processed \d+ insns|verification time|stack depth|-- END|$)")
_NOISE = re.compile(
    r"^(\d+: |;|from \d+|R\d+|arg#|func#|mark_precise|last_idx|regs=|parent |caller|returning|to caller"
    r"|(cur|old) state:)"
)


def explained(log: str, source: str, name: str) -> str:
    """What the verifier said, beside the line of `source` (a file `name`) at which it was."""
    lines = log.strip().splitlines()
    said = [at for at, line in enumerate(lines) if not _END.match(line) and not _NOISE.match(line)]
    if not said:
        return f"The kernel refused {name}: {lines[-1] if lines else 'it gave no reason'}"
    last = said[-1]
    heads = [line for line in lines[:last] if line.startswith("; ")]
    reason = lines[last].strip().rstrip(".")
    if not heads:
        return f"The kernel refused {name}: {reason}."
    number, text = _place(heads[-1], source, name)
    where = f"{name}:{number}" if number else name
    return f"The kernel refused {name}:\n{where}: {reason}\n    {text}"


def of_object(log: str, elf: bytes, name: str, program: str) -> str:
    """What the verifier said of a function `program` of an object file, beside the instruction, its section and the
    nearest symbol; with the line of the source too where the file holds that (clang -g)."""
    lines = log.strip().splitlines()
    said = [at for at, line in enumerate(lines) if not _END.match(line) and not _NOISE.match(line)]
    if not said:
        return f"The kernel refused {name}: {lines[-1] if lines else 'it gave no reason'}"
    reason = lines[said[-1]].strip().rstrip(".")
    numbered = [match for line in lines[: said[-1]] if (match := _INSTRUCTION.match(line))]
    found = linked.spot(Elf(elf), program, int(numbered[-1][1])) if numbered else None
    if found is None:
        return f"The kernel refused {name}: {program}: {reason}."
    where = f'{name}: section "{found.section}", instruction {found.instruction} ({found.symbol}+{found.behind})'
    heads = [match for line in lines[: said[-1]] if (match := _PLACED.match(line)) and match[3] != "0"]
    source = [f"    {PurePath(heads[-1][2]).name}:{heads[-1][3]}: {heads[-1][1].strip()}"] if heads else []
    return "\n".join([f"The kernel refused {name}:", f"{where}: {reason}", f"    {numbered[-1][2]}", *source])


def _line(source: str, number: int) -> str:
    lines = source.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


def _place(head: str, source: str, name: str) -> tuple[int, str]:
    """The line's number (0: unknown) and text."""
    if match := _PLACED.match(head):
        text, file, number = match[1], match[2], int(match[3])
        if PurePath(file).name == PurePath(name).name:
            return number, _line(source, number)  # clang read it from a pipe, and so kept no text
        return 0, f"{text.strip()}   ({PurePath(file).name}:{number})"
    text = head[2:].strip()
    same = [number for number, line in enumerate(source.splitlines(), 1) if line.strip() == text]
    return (same[0] if len(same) == 1 else 0), text
