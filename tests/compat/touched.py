"""Which members of TensorRT's API code touches: ``python -m tests.compat.touched FILE_OR_FOLDER...`` prints them.

Members are found by name: ``trt.Logger.WARNING`` is the member WARNING of Logger; ``.add_input`` of anything is the member of every class
that has one of this name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

MEMBERS = Path(__file__).with_name("tensorrt_members.txt")


def members() -> Iterator[tuple[str, str, str]]:
    """(class, member, versions) of TensorRT 8.6 and 11.1; functions of the module itself are of the class ``module``."""
    owner = ""
    for line in MEMBERS.read_text().splitlines():
        if line.startswith("  "):
            name, versions = line.split(None, 1)
            yield owner, name, versions
        elif not line.startswith("#"):
            owner = line


def touched(code: Iterable[str]) -> set[str]:
    """``class.member`` of all that pieces of code touch."""
    owners: dict[str, set[str]] = {}
    for owner, name, _ in members():
        owners.setdefault(name, set()).add(owner)
    classes = {owner for found in owners.values() for owner in found}
    chosen: set[str] = set()
    for text in code:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                chosen |= _members(node, owners, classes)
            elif isinstance(node, ast.FunctionDef):  # a method that overrides one
                chosen |= {f"{owner}.{node.name}" for owner in owners.get(node.name, ()) if not node.name.startswith("__")}
    return chosen


def _members(node: ast.Attribute, owners: dict[str, set[str]], classes: set[str]) -> set[str]:
    base = node.value
    inner = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
    if inner in classes:
        return {f"{inner}.{node.attr}"} if inner in owners.get(node.attr, ()) else set()
    if inner in ("trt", "tensorrt", "np", "numpy", "os", "sys", "torch", "cuda", "cudart", "onnx", "G", "util", "json"):
        made = node.attr in classes and node.attr in owners.get("__init__", ())
        return {f"{node.attr}.__init__"} if made else {f"module.{node.attr}"} if "module" in owners.get(node.attr, ()) else set()
    return {f"{owner}.{node.attr}" for owner in owners.get(node.attr, ())}


def sources(paths: Iterable[str]) -> Iterator[str]:
    """The texts of Python files, and of those in folders."""
    for path in map(Path, paths):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield file.read_text(encoding="utf-8")


if __name__ == "__main__":
    for member in sorted(touched(sources(sys.argv[1:]))):
        print(member)
