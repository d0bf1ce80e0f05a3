"""Facts about the machine that figures depend on, and what speaks against measuring on it now."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from strop.target.base import host_cores

#: One-minute load average above which a measurement is disturbed.
LOAD = 0.5

_CPU = Path("/sys/devices/system/cpu")


def facts() -> dict[str, Any]:
    """What is known: ``cpu``, ``cores``, ``caches`` (of the first core), ``governor``, ``virtual``, ``load``, ``system``,
    ``python``; None for what the system does not tell."""
    return {
        "cpu": _cpu_name(),
        "cores": host_cores(),
        "caches": _caches(),
        "governor": _read(_CPU / "cpu0/cpufreq/scaling_governor"),
        "virtual": _virtual(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def warnings(found: dict[str, Any]) -> list[str]:
    """Reasons not to trust figures taken now."""
    lines = []
    if found["load"] is not None and found["load"] > LOAD:
        lines.append(f"the load average is {found['load']:.2f}: other processes run; figures are noisy above {LOAD}")
    if found["governor"] not in (None, "performance"):
        lines.append(f"the frequency governor is {found['governor']}: clocks change while measuring; performance holds them")
    return lines


def describe(found: dict[str, Any]) -> str:
    """The facts in one line."""
    caches = ", ".join(f"{name} {size}" for name, size in (found["caches"] or {}).items())
    parts = [str(found["cpu"] or "unknown processor"), f"{found['cores']} cores", caches, str(found["system"])]
    parts.append("virtual machine" if found["virtual"] else "")
    parts.append(f"governor {found['governor']}" if found["governor"] else "")
    parts.append("" if found["load"] is None else f"load average {found['load']:.2f} at the start")
    return "; ".join(part for part in parts if part)


def _cpu_name() -> str | None:
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return _with_family(value.strip())
    return platform.processor() or None


def _with_family(name: str) -> str:
    """The name with family and model, where hypervisors shorten names."""
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in _lines("/proc/cpuinfo"))}
    if "cpu family" in known and "model" in known:
        return f"{name} (family {known['cpu family']}, model {known['model']})"
    return name


def _virtual() -> bool:
    return any(line.startswith("flags") and " hypervisor" in line for line in _lines("/proc/cpuinfo"))


def _caches() -> dict[str, str] | None:
    found = {}
    for index in sorted((_CPU / "cpu0/cache").glob("index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        if level and size and kind != "Instruction":
            found[f"L{level}"] = size
    return found or None


def _lines(path: str) -> list[str]:
    text = _read(Path(path))
    return text.splitlines() if text else []


def _read(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return None
