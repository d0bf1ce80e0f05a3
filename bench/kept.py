"""Engines that are kept between runs of a benchmark, so that a long build and a measurement in a quiet moment can be apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import strop
from strop.engine.engine import Engine
from strop.target.detect import parse as parse_target


@cache
def sources() -> str:
    """A digest of Strop's sources: engines made by others are not taken."""
    package = Path(strop.__file__).parent
    found = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in (".py", ".c", ".h")):
        found.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def kept(folder: Path | None, name: str, what: object, threads: int, build: Callable[[], Engine]) -> Engine:
    """The engine of an earlier run, or one that is built now and kept.

    Args:
        folder: where engines are kept; None for nowhere.
        name: how its file begins.
        what: all that it depends on besides Strop's sources and this machine; what JSON can hold.
        threads: that it runs on.
        build: makes it.

    Raises:
        StropError: it cannot be built, or what is kept is no engine.
    """
    if folder is None:
        return build()
    key = hashlib.sha256(json.dumps([what, threads, parse_target("host").name, sources()]).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.strop"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        build().save(path)
    return strop.load(path, threads=threads)
