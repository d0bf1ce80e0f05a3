"""Transposed convolution by the kernels of ordinary convolutions: see ``transpose_phases``.

Every phase is emitted by one of these kernels as a function of its own, and a task is a task of a phase. Where all phases have equally many, they
take turns, so that a block of input is used by all of them while it is near.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strop.kernels.base import Candidate, Emitted, Kernel, Out, Packed, Pointer, Region, View
from strop.kernels.c import conv_bf16, conv_depthwise, conv_direct, conv_dot, conv_winograd
from strop.kernels.c.transpose_phases import Phase, phases_of, taken_apart
from strop.kernels.c.writer import Writer, define
from strop.kernels.extent import SymbolicError, constants_of, greater
from strop.target.base import Target

#: Kernels that may do the phases.
_INNER: tuple[Kernel[Any], ...] = (conv_direct.KERNEL, conv_bf16.KERNEL, conv_depthwise.KERNEL, conv_dot.KERNEL, conv_winograd.KERNEL)
#: Those whose parameters suit any part of the filter.
_FREE = (conv_direct.KERNEL, conv_bf16.KERNEL, conv_depthwise.KERNEL, conv_dot.KERNEL)
#: Parameter sets offered.
_OFFERED = 8


@dataclass(frozen=True)
class Params:
    """phase: kernel and parameters of every phase."""

    phase: Candidate


class ConvTranspose(Kernel[Params]):
    """See the module's text."""

    name = "conv_transpose"
    in_place = all(kernel.in_place for kernel in _INNER)
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        phases = phases_of(region)
        if isinstance(phases, str):
            return phases
        reasons = [_refusal(kernel, phases, target) for kernel in _INNER]
        return None if None in reasons else "; ".join(dict.fromkeys(filter(None, reasons[:2])))

    def space(self, region: Region, target: Target) -> list[Params]:
        phases = taken_apart(region)
        widest = max(phases, key=lambda p: p.region.operand(1).view.count).region
        found = [
            Params(Candidate(kernel, params))
            for kernel in _INNER
            if _refusal(kernel, phases, target) is None
            for params in kernel.space(widest, target)
        ]
        return sorted(found, key=lambda p: self.cost(region, p, target))[:_OFFERED]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return sum(params.phase.cost(p.region, target) for p in taken_apart(region))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        kernel = params.phase.kernel
        if region.symbols and not kernel.symbolic:
            raise SymbolicError(f"{kernel.name} is made for fixed shapes")
        return _Emitter(taken_apart(region), params.phase, target).emitted()

    def error(self, region: Region, params: Params) -> float | None:
        kernel, inner = params.phase.kernel, params.phase.params
        errors = [e for p in taken_apart(region) if (e := kernel.error(p.region, inner)) is not None]
        return max(errors, default=None)


def _refusal(kernel: Kernel[Any], phases: list[Phase], target: Target) -> str | None:
    """Why a kernel cannot do all of the phases."""
    if not kernel.symbolic and phases[0].region.symbols:
        return "its code is made for fixed shapes"
    if kernel not in _FREE and len({(p.region.operand(1).view.shape, p.region.op, p.region.out.shape) for p in phases}) > 1:
        return "phases differ"
    return next((reason for p in phases if (reason := kernel.accepts(p.region, target)) is not None), None)


class _Emitter:
    """Holds what the phases share."""

    def __init__(self, phases: list[Phase], inner: Candidate, target: Target) -> None:
        self.phases = phases
        self.inner = inner
        self.target = target
        self.helpers: list[str] = []
        self.pointers: list[Pointer] = []
        self._numbers: dict[object, int] = {}

    def emitted(self) -> Emitted:
        w = Writer()
        calls: list[tuple[str, str]] = []
        counts: list[int] = []
        scratch = 0
        for number, phase in enumerate(self.phases):
            kernel, params = self.inner.kernel, self.inner.params
            emitted = kernel.emit(phase.region, params, self.target)
            self.helpers += [h for h in emitted.helpers if h not in self.helpers]
            declared, sizes = constants_of(emitted.body)
            parameters = ", ".join(["const strop_args *a", "int64_t begin", "int64_t end", *declared])
            name = define(self.helpers, "phase", f"({parameters}) {{\n{emitted.body}\n}}")
            operands = ", ".join(self._operand(phase, p) for p in emitted.pointers)
            w(f"void *const p{number}[] = {{{operands}}};", f"strop_args a{number} = *a;", f"a{number}.p = p{number};")
            calls.append((f"{name}(&a{number}", "".join(f", {s}" for s in sizes)))
            counts.append(emitted.tasks)
            scratch = greater(scratch, emitted.scratch)
        if all(count == counts[0] for count in counts):
            self._in_turns(w, calls)
        else:
            self._one_by_one(w, calls, counts)
        return Emitted(w.text(), tuple(self.pointers), sum(counts), scratch, tuple(self.helpers))

    def _in_turns(self, w: Writer, calls: list[tuple[str, str]]) -> None:
        """Task ``k`` of every phase, then ``k + 1``."""
        if len(calls) == 1:
            w(f"{calls[0][0]}, begin, end{calls[0][1]});")
            return
        with w.block("for (int64_t task = begin; task < end; task++)"):
            w(f"const int64_t from = task / {len(calls)}, to = from + 1;")
            with w.block(f"switch (task % {len(calls)})"):
                for number, (call, sizes) in enumerate(calls):
                    w(f"case {number}:", f"  {call}, from, to{sizes});", "  break;")

    def _one_by_one(self, w: Writer, calls: list[tuple[str, str]], counts: list[int]) -> None:
        """All tasks of a phase, then those of the next."""
        first = 0
        for (call, sizes), count in zip(calls, counts, strict=True):
            with w.block(""):
                w(f"const int64_t from = begin > {first} ? begin - {first} : 0;")
                w(f"const int64_t to = end - {first} < {count} ? end - {first} : {count};")
                with w.block("if (from < to)"):
                    w(f"{call}, from, to{sizes});")
            first += count

    def _operand(self, phase: Phase, pointer: Pointer) -> str:
        """C text of what the phase's kernel finds at one of its pointers."""
        if isinstance(pointer, Packed):
            return f"a->p[{self._number(id(pointer.array), pointer)}]"
        if isinstance(pointer, Out):
            return self._moved(self._number("y", pointer), phase.y, phase.region.out)
        if pointer.index == 0:
            return self._moved(self._number("x", pointer), phase.x, phase.region.operand(0).view)
        extra = pointer.index - phase.region.anchors
        if extra in phase.made:
            array = phase.made[extra]
            return f"a->p[{self._number(id(array), Packed(array))}]"
        return self._moved(self._number(extra, pointer), phase.extras[extra], phase.region.extras[extra].view)

    def _moved(self, number: int, offset: int, view: View) -> str:
        return f"({view.dtype.c} *)a->p[{number}] + {offset}" if offset != 0 else f"a->p[{number}]"

    def _number(self, key: object, pointer: Pointer) -> int:
        """Where in the list of pointers it is; added when it is new."""
        if key not in self._numbers:
            self._numbers[key] = len(self.pointers)
            self.pointers.append(pointer)
        return self._numbers[key]


KERNEL = ConvTranspose()
