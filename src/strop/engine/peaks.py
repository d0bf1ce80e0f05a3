"""The roofline of this machine for an engine; the best that was ever measured is remembered."""

from __future__ import annotations

import json
from dataclasses import asdict

from strop import knobs
from strop.engine.engine import Engine
from strop.engine.roofline import Peaks, measure
from strop.engine.versus import choose_cpus
from strop.errors import StropError
from strop.files import replacing
from strop.target.base import Target
from strop.target.detect import host
from strop.tune.records import cpu_of


def peaks_of(engine: Engine, threads: int | None = None) -> tuple[Peaks | None, str]:
    """What this machine's cores can do with its best instructions, or None and why that is not known.

    Args:
        threads: None for the engine's own.
    """
    try:
        return _peaks(host(), threads or int(engine.manifest.get("threads") or 1)), ""
    except StropError as error:
        return None, error.what


def _peaks(target: Target, threads: int) -> Peaks:
    """The best of what is measured now and of what is remembered: whatever else a machine does only lowers a peak."""
    path = knobs.cache_dir() / f"peaks-{target.name}-{threads}.json"
    machine = cpu_of(target)
    found = measure(target, threads, choose_cpus(threads))
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.pop("machine", None) == machine:
            found = Peaks(**{name: max(value, float(known.get(name, 0.0))) for name, value in asdict(found).items()})
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # nothing of use is remembered
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"machine": machine, **asdict(found)}), encoding="utf-8")
    return found
