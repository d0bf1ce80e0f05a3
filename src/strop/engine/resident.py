"""Memory of this process as the system counts it (Linux, proc(5)); None where it does not tell."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def resident() -> int | None:
    """Bytes of resident memory now, counted page by page."""
    return _kib("/proc/self/smaps_rollup", "Rss:") or _kib("/proc/self/status", "VmRSS:")


def peak() -> int | None:
    """Bytes of resident memory at the peak since ``reset_peak``."""
    return _kib("/proc/self/status", "VmHWM:")


def reset_peak() -> bool:
    """Lets the system start the process's peak anew (clear_refs, value 5); False where it does not."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def _kib(path: str, label: str) -> int | None:
    with suppress(OSError, ValueError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(label):
                return int(line.split()[1]) * 1024
    return None
