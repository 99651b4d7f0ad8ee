"""Sections of RESULTS.md: each benchmark writes its own and leaves the others as they are."""

import datetime
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "RESULTS.md"


def write_section(title: str, lines: Sequence[str], *, packages: Sequence[str] = (), file: Path = RESULTS) -> None:
    """Writes a section, in place of the one with the same title and processor if there is one.

    Args:
        title: of the section.
        lines: Markdown.
        packages: whose versions are named, of those that are installed.
        file: made when it is not there.
    """
    versions = ", ".join(filter(None, map(_with_version, packages)))
    head = [
        f"## {title}",
        "",
        f"{datetime.date.today().isoformat()}, {machine()}" + (f"; {versions}." if versions else "."),
        "",
        f"`{command(sys.argv)}`",
    ]
    section = "\n".join([*head, "", *lines]).rstrip() + "\n"
    text = file.read_text(encoding="utf-8") if file.exists() else "# Results\n"
    parts = re.split(r"(?m)^(?=## )", text)
    alike = [k for k, part in enumerate(parts) if part.startswith(f"## {title}\n")]
    same = [k for k in alike if f", {processor()}, " in parts[k]]
    if same:
        parts[same[0]] = section
    else:
        parts.insert(alike[-1] + 1 if alike else len(parts), section)
    file.write_text("\n".join(part.rstrip() + "\n" for part in parts), encoding="utf-8")


def command(arguments: Sequence[str]) -> str:
    """Returns what was written to start a program, `...` in place of folders."""
    shown = [re.sub(r"=.*[/\\\\].*", "=...", one) for one in arguments[1:]]
    return " ".join(["python", f"benchmarks/{Path(arguments[0]).name}", *shown])


def _with_version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def machine() -> str:
    """Returns the processor, its cores and the memory, in words."""
    memory = ""
    try:
        kilobytes = int(re.findall(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))[0])
        memory = f", {kilobytes / 2**20:.0f} GiB"
    except (OSError, IndexError):
        pass
    return f"{processor()}, {len(os.sched_getaffinity(0))} cores{memory}, Python {platform.python_version()}"


def processor() -> str:
    """Returns the processor's name and what it has for half precision, as far as the system tells."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        has = next((name for name in ("amx_bf16", "avx512_bf16") if f" {name} " in info), "no bf16")
        return f"{re.findall(r'model name[^:]*: *(.+)', info)[0]} ({has})"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def table(rows: Mapping[str, Sequence[float]], *, unit: str, digits: int = 1) -> list[str]:
    """Returns a Markdown table of raw values and their medians, a row a name."""
    lines = [f"| | median {unit} | raw |", "|---|---|---|"]
    for name, values in rows.items():
        raw = ", ".join(f"{v:.{digits}f}" for v in values)
        lines.append(f"| {name} | {median(values):.{digits}f} | {raw} |")
    return lines
