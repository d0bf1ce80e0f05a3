"""The C and C++ faces of the runtime, and that its sources compile cleanly wherever they should."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from strop.engine import custom_section as custom
from strop.engine import format as fmt
from strop.engine import plan
from strop.ir import dtype as dt
from strop.runtime import callbacks, sources
from strop.runtime.error_struct import ErrorStruct
from strop.runtime.library import Library, MemoryStruct, StepStruct, TensorStruct
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux


def run(program: Path, engine: Path, *arguments: str) -> str:
    done = subprocess.run([program, engine, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_c_program_with_the_sources(tmp_path: Path) -> None:
    files = [syn.HERE / "program.c", *sources.source_files()]
    program = syn.compile_native(files, "program-c", "-std=gnu11", "-O2", "-lpthread", "-ldl")
    assert run(program, syn.write(tmp_path / "e.strop")) == "ok\n"


def test_many_users_of_one_pool_while_forking(tmp_path: Path) -> None:
    files = [syn.HERE / "stress.c", *sources.source_files()]
    program = syn.compile_native(files, "stress", "-std=gnu11", "-O2", "-lpthread", "-ldl")
    assert run(program, syn.write(tmp_path / "e.strop"), "3") == "ok\n"


@pytest.mark.slow  # the sanitizer's library is built first
def test_many_users_of_one_pool_race_for_nothing(tmp_path: Path) -> None:
    files = [syn.HERE / "stress.c", *sources.source_files()]
    flags = ("-std=gnu11", "-g", "-O1", "-fsanitize=thread", "-lpthread", "-ldl")
    program = syn.compile_native(files, "stress-tsan", *flags)
    assert run(program, syn.write(tmp_path / "e.strop"), "0") == "ok\n"


@pytest.mark.slow  # the C++ standard library is built first
def test_cpp_program_with_the_library(tmp_path: Path) -> None:
    runtime = syn.runtime_path()
    link = [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    program = syn.compile_native(
        [syn.HERE / "program.cpp"], "program-cpp", "-std=c++17", "-O1", *link, language="c++"
    )
    assert run(program, syn.write(tmp_path / "e.strop")) == "ok\n"


def test_cpp_header_compiles() -> None:
    syn.compile_native([syn.HERE / "program.cpp"], "program.o", "-std=c++17", "-c", language="c++")


def test_compiles_for_the_other_machine() -> None:
    data = syn.runtime_path(syn.OTHER_MACHINE).read_bytes()
    assert int.from_bytes(data[18:20], "little") == {"x86_64": 62, "aarch64": 183}[syn.OTHER_MACHINE]


def test_exports_exactly_what_the_header_declares() -> None:
    header = (sources.INCLUDE_DIR / "strop.h").read_text()
    declared = set(re.findall(r"STROP_API[^;(]*?(strop_\w+)\(", header))
    assert len(declared) > 20
    exported = _exported_symbols(syn.runtime_path().read_bytes())
    assert exported == declared


def _exported_symbols(elf: bytes) -> set[str]:
    """Names of the defined dynamic symbols of a 64-bit little-endian ELF file."""
    section = np.dtype(
        [("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("addr", "<u8"), ("offset", "<u8"),
         ("size", "<u8"), ("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entsize", "<u8")]
    )  # fmt: skip
    symbol = np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("index", "<u2"), ("value", "<u8"), ("size", "<u8")])
    table = int.from_bytes(elf[40:48], "little")
    count = int.from_bytes(elf[60:62], "little")
    headers = np.frombuffer(elf, section, count, table)
    dynsym = next(h for h in headers if h["type"] == 11)
    names = int(headers[dynsym["link"]]["offset"])
    symbols = np.frombuffer(elf, symbol, int(dynsym["size"]) // symbol.itemsize, int(dynsym["offset"]))
    found = set()
    for row in symbols:
        if row["index"] != 0 and row["name"] != 0:
            start = names + int(row["name"])
            found.add(elf[start : elf.index(b"\0", start)].decode())
    return found


LAYOUT = r"""
#include <stdio.h>
#include "strop.h"
#include "strop_format.h"
#include "strop_kernel.h"
#define SHOW(name, value) printf("\"%s\": %llu,\n", name, (unsigned long long)(value))
#define SIZE(type) SHOW(#type, sizeof(type))
#define AT(type, field) SHOW(#type "." #field, offsetof(type, field))
int main(void) {
    puts("{");
    SIZE(strop_file_header); SIZE(strop_section_record); SIZE(strop_plan_header);
    SIZE(strop_tensor_record); SIZE(strop_step_record); SIZE(strop_arg_record);
    AT(strop_file_header, table_checksum); AT(strop_section_record, name);
    AT(strop_plan_header, arena_bytes); AT(strop_tensor_record, dims); AT(strop_tensor_record, bytes);
    AT(strop_step_record, n_tasks); AT(strop_step_record, name); AT(strop_arg_record, offset);
    SIZE(strop_error); SIZE(strop_tensor_info); SIZE(strop_step_info); SIZE(strop_memory_info);
    SHOW("version", STROP_FORMAT_VERSION); SHOW("plan_abi", STROP_PLAN_ABI);
    SHOW("kernel_abi", STROP_KERNEL_ABI); SHOW("abi", STROP_ABI_VERSION);
    SHOW("alignment", STROP_ALIGNMENT); SHOW("max_sections", STROP_MAX_SECTIONS);
    SHOW("max_tensors", STROP_MAX_TENSORS); SHOW("max_steps", STROP_MAX_STEPS);
    SHOW("max_args", STROP_MAX_ARGS); SHOW("max_strings", STROP_MAX_STRINGS);
    SHOW("max_bytes", STROP_MAX_BYTES); SHOW("max_tasks", STROP_MAX_TASKS);
    SHOW("max_scratch", STROP_MAX_BYTES / STROP_MAX_THREADS); SHOW("max_rank", STROP_MAX_RANK);
    SHOW("flush", STROP_PLAN_FLUSH_DENORMALS);
    SHOW("manifest", STROP_SECTION_MANIFEST); SHOW("graph", STROP_SECTION_GRAPH);
    SHOW("plan", STROP_SECTION_PLAN); SHOW("weights", STROP_SECTION_WEIGHTS);
    SHOW("kernels", STROP_SECTION_KERNELS); SHOW("runtime", STROP_SECTION_RUNTIME);
    SHOW("custom", STROP_SECTION_CUSTOM); SHOW("attachment", STROP_SECTION_ATTACHMENT); SHOW("host", STROP_SECTION_HOST); SHOW("custom_abi", STROP_CUSTOM_ABI);
    SIZE(strop_custom_header); SIZE(strop_custom_step_record); SIZE(strop_custom_tensor_record);
    AT(strop_custom_step_record, first_tensor); AT(strop_custom_tensor_record, strides);
    SIZE(strop_custom_tensor); SIZE(strop_custom_call); SHOW("by_name", STROP_KERNEL_BY_NAME);
    SHOW("callback", STROP_CUSTOM_CALLBACK); SHOW("kernel", STROP_CUSTOM_KERNEL);
    SHOW("arena", STROP_SPACE_ARENA); SHOW("space_weights", STROP_SPACE_WEIGHTS);
    SHOW("input", STROP_SPACE_INPUT); SHOW("output", STROP_SPACE_OUTPUT);
    SHOW("f32", STROP_F32); SHOW("u8", STROP_U8); SHOW("i8", STROP_I8); SHOW("u16", STROP_U16);
    SHOW("i16", STROP_I16); SHOW("i32", STROP_I32); SHOW("i64", STROP_I64); SHOW("bool", STROP_BOOL);
    SHOW("f16", STROP_F16); SHOW("f64", STROP_F64); SHOW("u32", STROP_U32); SHOW("u64", STROP_U64);
    SHOW("bf16", STROP_BF16);
    for (int i = 0; i < 8; i++) { char name[8]; snprintf(name, sizeof name, "m%d", i); SHOW(name, (unsigned char)strop_magic[i]); }
    puts("\"end\": 0}");
    return 0;
}
"""


def test_python_and_c_agree_on_every_byte(tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    source.write_text(LAYOUT)
    program = syn.compile_native([source], "layout", f"-I{sources.INCLUDE_DIR.parent / 'src'}", "-Wno-unused")
    shown = json.loads(subprocess.run([program], capture_output=True, check=True).stdout)
    ctypes_size = {
        "strop_error": ErrorStruct, "strop_tensor_info": TensorStruct,
        "strop_step_info": StepStruct, "strop_memory_info": MemoryStruct,
    }  # fmt: skip
    expected = {
        "strop_file_header": fmt._HEADER.size,
        "strop_file_header.table_checksum": fmt._CHECKSUM_AT,
        "strop_section_record": fmt._SECTION.size,
        "strop_section_record.name": 32,
        "strop_plan_header": plan._HEADER.itemsize,
        "strop_plan_header.arena_bytes": plan._HEADER.fields["arena_bytes"][1],
        "strop_tensor_record": plan._TENSOR.itemsize,
        "strop_tensor_record.dims": plan._TENSOR.fields["dims"][1],
        "strop_tensor_record.bytes": plan._TENSOR.fields["bytes"][1],
        "strop_step_record": plan._STEP.itemsize,
        "strop_step_record.n_tasks": plan._STEP.fields["n_tasks"][1],
        "strop_step_record.name": plan._STEP.fields["name"][1],
        "strop_arg_record": plan._ARG.itemsize,
        "strop_arg_record.offset": plan._ARG.fields["offset"][1],
        **{name: ctypes.sizeof(struct) for name, struct in ctypes_size.items()},
        "version": fmt.FORMAT_VERSION, "plan_abi": fmt.PLAN_ABI, "kernel_abi": fmt.KERNEL_ABI,
        "abi": fmt.RUNTIME_ABI, "alignment": fmt.ALIGNMENT, "max_sections": fmt.MAX_SECTIONS,
        "max_tensors": plan.MAX_TENSORS, "max_steps": plan.MAX_STEPS, "max_args": plan.MAX_ARGS,
        "max_strings": plan.MAX_STRING_BYTES, "max_bytes": plan.MAX_BYTES,
        "max_tasks": plan.MAX_TASKS, "max_scratch": plan.MAX_SCRATCH_BYTES,
        "max_rank": plan.MAX_RANK, "flush": plan.FLUSH_DENORMALS,
        **{kind.name.lower(): kind for kind in fmt.SectionKind},
        "arena": plan.Space.ARENA, "space_weights": plan.Space.WEIGHTS,
        "input": plan.Space.INPUT, "output": plan.Space.OUTPUT,
        **{dtype.name: dtype.code for dtype in dt.ON_PROCESSORS},
        **{f"m{i}": byte for i, byte in enumerate(fmt.MAGIC)},
        "custom_abi": fmt.CUSTOM_ABI,
        "strop_custom_header": custom._HEADER.itemsize,
        "strop_custom_step_record": custom._STEP.itemsize,
        "strop_custom_step_record.first_tensor": custom._STEP.fields["first_tensor"][1],
        "strop_custom_tensor_record": custom._TENSOR.itemsize,
        "strop_custom_tensor_record.strides": custom._TENSOR.fields["strides"][1],
        "strop_custom_tensor": ctypes.sizeof(callbacks._Tensor), "strop_custom_call": ctypes.sizeof(callbacks._Call),
        "by_name": plan.KERNEL_BY_NAME, **{kind.name.lower(): kind for kind in custom.CustomKind},
        "end": 0,
    }  # fmt: skip
    assert shown == expected


@pytest.mark.parametrize("size", [0, 1, 7, 8, 4095, 4096, 4097, 70_000, 3_000_001])
def test_python_and_c_agree_on_the_checksum(size: int) -> None:
    library = Library(str(syn.runtime_path()))
    data = np.random.default_rng(size).integers(0, 256, size + 3, np.uint8)[3:]
    assert fmt.hash64(data) == library.strop_hash64(data.ctypes.data, data.size)
