"""Failing cases as test files, and how such a file runs."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from strop.ir import text
from strop.ir.op import Array
from tests.fuzz.examine import Finding, Setup, examine
from tests.fuzz.generate import Case

_TEMPLATE = '''"""{what}"""

from tests.fuzz.examine import Setup
from tests.fuzz.replay import replay

GRAPH = """
{graph}"""
ARRAYS = {arrays}


def test_{name}():
    replay(GRAPH, ARRAYS, {setup})
'''


def packed(array: Array) -> str:
    """An array as text: dtype, shape and compressed bytes."""
    data = base64.b85encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    return f"{array.dtype} {','.join(map(str, array.shape))} {data}"


def unpacked(words: str) -> Array:
    """The array of a text that ``packed`` made."""
    import ml_dtypes  # noqa: F401  registers bfloat16

    dtype, shape, data = words.split(" ")
    dims = tuple(int(d) for d in shape.split(",") if d)
    return np.frombuffer(zlib.decompress(base64.b85decode(data)), np.dtype(dtype)).reshape(dims)


def write_test(folder: Path, case: Case, finding: Finding, setup: Setup) -> Path:
    """Writes a case as a test file that fails as long as the defect is there; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{finding.kind.replace(' ', '_')}_{finding.seed}"
    arrays = {f"#{d}": packed(a) for d, a in text.by_digest(case.graph).items()}
    arrays |= {n: packed(a) for n, a in case.feed.items()}
    lines = "".join(f"    {k!r}: {v!r},\n" for k, v in arrays.items())
    graph = text.show(case.graph).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    what = " ".join(f"Seed {finding.seed}, {finding.kind}: {finding.text}".split()).replace("\\", "/").replace('"', "'")
    path = folder / f"test_{name}.py"
    path.write_text(_TEMPLATE.format(what=what, graph=graph, arrays="{\n" + lines + "}", name=name, setup=repr(setup)), encoding="utf-8")
    return path


def replay(graph: str, arrays: Mapping[str, str], setup: Setup) -> None:
    """Examines a written case; AssertionError names what is found."""
    constants = {n[1:]: unpacked(a) for n, a in arrays.items() if n.startswith("#")}
    feed = {n: unpacked(a) for n, a in arrays.items() if not n.startswith("#")}
    found = examine([Case(text.parse(graph, constants), feed, 0)], setup).findings
    assert not found, found
