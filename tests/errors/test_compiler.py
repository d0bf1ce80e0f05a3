"""No compiler, or one that does not work: the error names it, and nothing is written."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from strop.codegen import toolchain
from strop.engine.build import build
from strop.errors import ToolchainError
from tests import tiny_net
from tests.errors.command import run


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither a compiler found before nor objects compiled before."""
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STROP_CC", raising=False)
    toolchain._find.cache_clear()
    yield
    toolchain._find.cache_clear()


def script(folder: Path, text: str) -> Path:
    """An executable that pretends to be a compiler."""
    path = folder / "fakecc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fails(message: str, tmp_path: Path) -> ToolchainError:
    """Builds in Python and on the command line; both fail with the message."""
    with pytest.raises(ToolchainError, match=message) as error:
        build(tiny_net.model_file(), level=0)
    toolchain._find.cache_clear()
    done = run("build", tiny_net.model_file(), "-o", tmp_path / "net.strop", "--level", "0")
    assert done.code == 1 and message in done.err
    assert not [name for name in os.listdir(tmp_path) if name.startswith((".net", "net"))]
    return error.value


def test_a_command_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_CC", "/nonexistent/clang -O9")
    error = fails("the C compiler in STROP_CC is not there", tmp_path)
    assert error.got == "/nonexistent/clang -O9" and error.hint


@pytest.mark.parametrize("command", [" ", "clang 'unclosed"])
def test_a_command_that_is_none(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_CC", command)
    fails("STROP_CC is no command", tmp_path)


def test_a_file_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path, "")
    path.write_bytes(b"\x7fELF nonsense")
    monkeypatch.setenv("STROP_CC", str(path))
    fails("the C compiler does not start", tmp_path)


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path, 'if [ "$1" = --version ]; then echo fake clang 1.0; else echo "no such option" >&2; exit 3; fi')
    monkeypatch.setenv("STROP_CC", str(path))
    error = fails("the C compiler failed", tmp_path)
    assert error.got == "no such option"


def test_another_compiler_than_clang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_CC", str(script(tmp_path, "echo 'cc (Other) 12.2'")))
    assert fails("the C compiler in STROP_CC is not clang", tmp_path).got == "cc (Other) 12.2"


def test_a_compiler_without_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_CC", str(script(tmp_path, "echo broken >&2; exit 1")))
    assert fails("the C compiler does not start", tmp_path).got == "broken"


def test_no_compiler_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    error = fails("no C compiler found", tmp_path)
    assert error.hint == "pip install ziglang"


def test_a_package_without_its_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    fails("the ziglang package has no compiler in it", tmp_path)


def test_an_empty_path_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert toolchain.find().zig
