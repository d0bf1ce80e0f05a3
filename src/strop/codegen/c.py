"""Chosen kernels to C: one function per distinct kernel body, spread over translation units, and the table the runtime reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from strop.codegen import toolchain
from strop.kernels.base import Emitted
from strop.kernels.c.writer import scalar_helpers
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Version of ``strop_kernel`` calls, as in strop_kernel.h.
KERNEL_ABI = 1
#: Most translation units, and characters below which another one costs more than it saves.
_UNITS = 8
_UNIT_SIZE = 50_000


@dataclass
class Function:
    """A distinct kernel.

    Attributes:
        name: C identifier.
        emitted: its code.
        label: kernel and parameters, for the comment.
        layers: names of the layers it serves.
    """

    name: str
    emitted: Emitted
    label: str
    layers: list[str]

    def text(self) -> str:
        """Its C definition, headed by what it is and whom it serves."""
        served = ", ".join(_comment(layer) for layer in self.layers[:8])
        more = f" and {len(self.layers) - 8} more" if len(self.layers) > 8 else ""
        return (
            f"/* {_comment(self.label)}: {served}{more} */\n"
            f"void {self.name}(const strop_args *a, int64_t begin, int64_t end) {{\n{_plain_16_bit(self.emitted.body)}\n}}\n"
        )


#: A pointer to 16-bit integers, which also hold bf16.
_STORES_16_BIT = re.compile(r"\bu?int16_t \*")
_LOOP = re.compile(r"^( *)(for \()", re.MULTILINE)


def _plain_16_bit(text: str) -> str:
    """Code whose loops over 16-bit elements the compiler leaves as they are.

    LLVM's vectorizer for AVX-512 may store the last one of a few such elements with a 32-bit instruction, over whatever lies behind it.
    """
    return _LOOP.sub(r"#pragma clang loop vectorize(disable)\n\1\2", text) if _STORES_16_BIT.search(text) else text


def _comment(text: str) -> str:
    return text.replace("*/", "* /").replace("\n", " ")


class Module:
    """The kernels of one engine for one target. ``add`` returns the index in the kernel table."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.functions: list[Function] = []
        self._index: dict[str, int] = {}

    def add(self, emitted: Emitted, label: str, layer: str) -> int:
        """Registers a kernel; equal bodies share one function."""
        digest = hashlib.sha256("\0".join((emitted.body, *emitted.helpers)).encode()).hexdigest()
        index = self._index.get(digest)
        if index is None:
            index = len(self.functions)
            self._index[digest] = index
            stem = re.sub(r"[^a-z0-9_]", "", label.split("(")[0])
            self.functions.append(Function(f"strop_{stem}_{digest[:10]}", emitted, label, []))
        function = self.functions[index]
        if layer not in function.layers:
            function.layers.append(layer)
        return index

    @property
    def used(self) -> Target:
        """The target with those optional features that the code gains from."""
        texts = (text for f in self.functions for text in (f.emitted.body, *f.emitted.helpers))
        return replace(self.target, extras=ISAS[self.target.isa].used("\n".join(texts), self.target.extras))

    def units(self) -> list[str]:
        """C texts: the functions, dealt out by length over a few units, then the table."""
        length = sum(len(f.emitted.body) for f in self.functions)
        bins: list[list[Function]] = [[] for _ in range(min(_UNITS, 1 + length // _UNIT_SIZE))]
        sizes = [0] * len(bins)
        for function in sorted(self.functions, key=lambda f: (-len(f.emitted.body), f.name)):
            smallest = sizes.index(min(sizes))
            bins[smallest].append(function)
            sizes[smallest] += len(function.emitted.body)
        return [self._unit(functions) for functions in bins if functions] + [self._table()]

    def _unit(self, functions: Sequence[Function]) -> str:
        body = "\n".join(f.text() for f in functions)
        helpers = "\n".join(dict.fromkeys(_plain_16_bit(h) for f in functions for h in f.emitted.helpers))
        isa = ISAS[self.target.isa].using(self.used.extras)
        macros = scalar_helpers(body + helpers)
        return (
            "#include <math.h>\n#include <stdbool.h>\n#include <stdint.h>\n#include <string.h>\n"
            '#include "strop_kernel.h"\n'
            f"{macros}{isa.prologue(body + helpers)}{helpers}\n{body}"
        )

    def _table(self) -> str:
        names = [f.name for f in self.functions]
        declarations = "\n".join(f"void {n}(const strop_args *a, int64_t begin, int64_t end);" for n in names)
        export = '__attribute__((visibility("default")))'
        return (
            '#include <stdint.h>\n#include "strop_kernel.h"\n'
            f"{declarations}\n"
            f"{export} const strop_kernel strop_kernel_table[] = {{\n"
            + "".join(f"  {n},\n" for n in names)
            + "};\n"
            f"{export} const uint32_t strop_kernel_count = {len(names)};\n"
            f"{export} const uint32_t strop_kernel_abi = {KERNEL_ABI};\n"
            f'{export} const char strop_kernel_isa[] = "{self.target.isa}";\n'
        )

    def compile(self, done: Callable[[int, int], None] | None = None) -> Path:
        """The shared library with all kernels."""
        target = self.used
        return toolchain.link_shared(toolchain.compile_all(self.units(), target, done), target)
