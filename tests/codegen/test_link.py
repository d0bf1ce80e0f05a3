"""Linking: nothing is left undefined, and libraries load where no compiler is."""

from __future__ import annotations

import ctypes

import pytest

from strop.codegen.toolchain import compile_all, link_shared
from strop.errors import ToolchainError
from strop.target.detect import TARGETS, runs_here

HERE = [t for t in TARGETS.values() if runs_here(t)]
EXPORT = '__attribute__((visibility("default")))'


def link(text, target):
    return link_shared(compile_all([text], target), target)


def test_a_missing_function_is_named():
    with pytest.raises(ToolchainError, match="not_to_be_found"):
        link(f"float not_to_be_found(float); {EXPORT} float f(float x) {{ return not_to_be_found(x); }}", HERE[0])


@pytest.mark.parametrize("target", HERE, ids=str)
def test_libraries_find_the_c_library(target):
    text = (
        "#include <math.h>\n#include <string.h>\n"
        f"{EXPORT} float f(float x, char *p, long n) {{ memset(p, 7, n); return expf(x) + powf(x, 2.5f); }}\n"
    )
    library = ctypes.CDLL(str(link(text, target)))
    library.f.restype, library.f.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_char_p, ctypes.c_long]
    buffer = ctypes.create_string_buffer(100)
    assert library.f(0.0, buffer, 50) == 1.0
    assert buffer.raw[:51] == b"\x07" * 50 + b"\0"


@pytest.mark.parametrize("target", TARGETS.values(), ids=str)
def test_equal_objects_are_linked_once(target):
    text = f"{EXPORT} int f(int x) {{ return x + 1; }}\n"
    first = link(text, target)
    stamp = first.stat().st_mtime_ns
    assert link(text, target) == first and first.stat().st_mtime_ns == stamp
