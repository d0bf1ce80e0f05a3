"""C functions that call one vector instruction each, all operands by pointer, and their Python side."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence

import numpy as np

from strop.codegen import toolchain
from strop.target.base import Target
from strop.target.isa.base import Instr, Isa
from strop.target.isa.table import ISAS

_READ = {
    "vf": "*(const vf_u *)in[{k}]",
    "vi": "*(const vi_u *)in[{k}]",
    "float": "*(const float *)in[{k}]",
    "int64_t": "*(const int64_t *)in[{k}]",
    "int32_t": "*(const int32_t *)in[{k}]",
    "const float *": "(const float *)in[{k}]",
    "float *": "(float *)in[{k}]",
    "const int32_t *": "(const int32_t *)in[{k}]",
    "int32_t *": "(int32_t *)in[{k}]",
    "const uint8_t *": "(const uint8_t *)in[{k}]",
    "uint8_t *": "(uint8_t *)in[{k}]",
    "const uint16_t *": "(const uint16_t *)in[{k}]",
    "uint16_t *": "(uint16_t *)in[{k}]",
    "const _Float16 *": "(const _Float16 *)in[{k}]",
    "_Float16 *": "(_Float16 *)in[{k}]",
    "const void *": "in[{k}]",
    "const int8_t *": "(const int8_t *)in[{k}]",
    "const int16_t *": "(const int16_t *)in[{k}]",
    "int16_t *": "(int16_t *)in[{k}]",
    "int8_t *": "(int8_t *)in[{k}]",
}
_WRITE = {
    "vf": "*(vf_u *)out = {call};",
    "vi": "*(vi_u *)out = {call};",
    "float": "*(float *)out = {call};",
    "int": "*(int32_t *)out = {call};",
    "void": "{call};",
}


def parameters(instr: Instr) -> list[tuple[str, str]]:
    """(type, name) of each C parameter."""
    if instr.params == "void":
        return []
    found = []
    for text in instr.params.split(","):
        words = text.strip().rsplit(" ", 1)
        stars = len(words[1]) - len(words[1].lstrip("*"))
        found.append((words[0] + " *" * bool(stars), words[1].lstrip("*")))
    return found


def source(isa: Isa, instrs: Iterable[Instr]) -> str:
    """A C unit with ``t_NAME(const void *const *in, void *out)`` per instruction."""
    texts = []
    for instr in instrs:
        reads = [_READ[kind].format(k=k) for k, (kind, _) in enumerate(parameters(instr))]
        statement = _WRITE[instr.result].format(call=f"{instr.name}({', '.join(reads)})")
        texts.append(
            '__attribute__((visibility("default")))\n'
            f"void t_{instr.name}(const void *const *in, void *out) {{ {statement} }}\n"
        )
    body = "".join(texts)
    head = "#include <math.h>\n#include <stdbool.h>\n#include <stdint.h>\n#include <string.h>\n"
    return head + isa.prologue(body) + body


def library(target: Target, instrs: Sequence[Instr]) -> ctypes.CDLL:
    """The compiled functions."""
    objects = toolchain.compile_all([source(ISAS[target.isa].using(target.extras), instrs)], target)
    return ctypes.CDLL(str(toolchain.link_shared(objects, target)))


def run(lib: ctypes.CDLL, instr: Instr, arrays: Sequence[np.ndarray], lanes: int) -> np.ndarray:
    """Calls an instruction; an instruction that stores answers its first array."""
    kept = [np.ascontiguousarray(a) for a in arrays]
    pointers = (ctypes.c_void_p * max(1, len(kept)))(*(a.ctypes.data for a in kept))
    kind = {"vf": np.float32, "float": np.float32}.get(instr.result, np.int32)
    out = np.zeros(lanes if instr.result in ("vf", "vi") else 1, kind)
    getattr(lib, f"t_{instr.name}")(pointers, ctypes.c_void_p(out.ctypes.data))
    return kept[0] if instr.result == "void" else out
