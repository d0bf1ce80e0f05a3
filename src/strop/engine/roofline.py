"""What the cores can do at most: multiply-adds from registers, of f32 or in dot products of bf16 or bytes, and bytes copied through memory.

Both are measured with kernels that are made here and compiled like Strop's own. The best of several repetitions counts: it is
a limit that is looked for, and everything else a machine does only lowers it.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np

from strop.codegen import toolchain
from strop.errors import TargetError
from strop.target.base import Target
from strop.target.detect import runs_here

#: Bytes of a vector register and accumulators per instruction set: enough to hide the latency of a multiply-add on every
#: port (4 cycles x 2 ports, or 5 x 4 on some cores), and no more than there are registers.
_REGISTERS = {"avx512": (64, 24), "avx2": (32, 12), "neon": (16, 24)}
_DEFAULT_REGISTERS = (16, 8)

#: Bytes that a thread copies; more than a share of any last-level cache.
COPY_BYTES = 128 << 20
_ALIGNMENT = 64
#: Repetitions of each; the best counts.
FMA_REPEATS, COPY_REPEATS = 25, 9
_FMA_SECONDS = 0.02


@dataclass(frozen=True)
class Peaks:
    """What the cores that were used can do together.

    Attributes:
        flops: f32 operations per second; a multiply-add counts 2.
        bandwidth: bytes per second, read and written, when copying more than the caches hold.
        cache_bandwidth: the same when copying what the second-level caches hold; 0 when it was not measured.
    """

    flops: float
    bandwidth: float
    cache_bandwidth: float = 0.0

    def attainable(self, flops: float, bytes: float) -> float:
        """Operations per second that work of so many operations and bytes can reach with its data in a cache (S. Williams et al.,
        2009, "Roofline")."""
        return self.flops if bytes <= 0 else min(self.flops, self.best_bandwidth * flops / bytes)

    @property
    def best_bandwidth(self) -> float:
        """That of the nearest memory that was measured."""
        return max(self.bandwidth, self.cache_bandwidth)


def measure(target: Target, threads: int, cpus: Sequence[int] | None, precision: str = "fp32") -> Peaks:
    """Measures what ``threads`` cores can do together with the target's instructions.

    Args:
        target: whose vectors are used; this machine must run it.
        threads: that work at once.
        cpus: cores to stay on, one per thread; None to leave that to the system.
        precision: of the factors; for bf16 and int8 dot products count where the target has them, else multiply-adds of f32.

    Raises:
        TargetError: this machine cannot run the target's code.
        ToolchainError: no C compiler.
    """
    kind = precision if precision in precisions_of(target) else "fp32"
    adds = MultiplyAdds(target, threads, cpus, [kind])
    adds.measure(FMA_REPEATS)
    library, size = _library(target), _registers(target)[0]
    buffers = [np.ones(COPY_BYTES + _ALIGNMENT, np.uint8) for _ in range(2 * threads)]
    starts = [-(-b.ctypes.data // _ALIGNMENT) * _ALIGNMENT for b in buffers]
    places = list(zip(starts[::2], starts[1::2]))
    copy_s = min(_time(lambda k: library.peak_copy(*places[k], COPY_BYTES), threads, cpus) for _ in range(COPY_REPEATS))
    near, times = max(4 * size, target.l2 // 4 // (4 * size) * 4 * size), 64
    reuse_s = min(_time(lambda k: library.peak_reuse(*places[k], near, times), threads, cpus) for _ in range(COPY_REPEATS))
    rate = threads * 2 * near * times / reuse_s
    return Peaks(adds.rates[kind], threads * 2 * COPY_BYTES / copy_s, rate)


class MultiplyAdds:
    """Multiply-adds from registers in every precision, measured as often as is asked; the best of each counts.

    Attributes:
        rates: operations per second of all threads together, by precision; a multiply-add counts 2.
    """

    def __init__(self, target: Target, threads: int, cpus: Sequence[int] | None, precisions: Sequence[str] | None = None) -> None:
        """
        Args:
            target: whose vectors are used; this machine must run it.
            threads: that work at once.
            cpus: cores to stay on, one per thread; None to leave that to the system.
            precisions: of ``precisions_of(target)``; all of them by default.

        Raises:
            TargetError: this machine cannot run the target's code.
            ToolchainError: no C compiler.
        """
        if not runs_here(target):
            raise TargetError("this machine does not run the target", got=target.name)
        self.rates: dict[str, float] = {}
        self._threads, self._cpus = threads, cpus
        size, accumulators = _registers(target)
        self._chains: dict[str, tuple[Callable[[int], object], int, int]] = {}
        for precision in precisions_of(target) if precisions is None else precisions:
            peak, loops = getattr(_library(target), f"peak_{precision}"), 1000
            while self._seconds(peak, loops, 1) < _FMA_SECONDS:
                loops *= 2
            self._chains[precision] = peak, loops, threads * loops * accumulators * size // 4 * _OPERATIONS[precision]

    def _seconds(self, peak: Callable[[int], object], loops: int, threads: int) -> float:
        return _time(lambda thread: peak(loops), threads, self._cpus)

    def measure(self, repeats: int = 1) -> None:
        """Measures each precision so many times more."""
        for _ in range(repeats):
            for precision, (peak, loops, operations) in self._chains.items():
                rate = operations / self._seconds(peak, loops, self._threads)
                self.rates[precision] = max(rate, self.rates.get(precision, 0.0))


def precisions_of(target: Target) -> list[str]:
    """What multiply-adds are measured in: fp32, and where the processor has dot products of them bf16 and int8."""
    return ["fp32", *(precision for precision in _DOTS if has_dots(target, precision))]


def has_dots(target: Target, precision: str = "bf16") -> bool:
    """True when the processor has dot products of a precision, bf16 or int8, that are measured here."""
    return any(feature in target.extras for feature in _DOTS[precision])


def source(target: Target) -> str:
    """The C text of the kernels."""
    return _source(target) + "".join(_dots(target, precision) for precision in precisions_of(target)[1:])


#: Operations per 32 bits of a vector.
_OPERATIONS = {"fp32": 2, "bf16": 4, "int8": 8}
#: Dot products per precision: by a feature of targets, the function that adds the products of two vectors to a third.
_DOTS = {
    "bf16": {"avx512bf16": "(vec)_mm512_dpbf16_ps((__m512){name}, (__m512bh)m, (__m512bh)m)"},
    "int8": {
        "avx512vnni": "(vec)_mm512_dpbusd_epi32((__m512i){name}, (__m512i)m, (__m512i)m)",
        "avxvnni": "(vec)_mm256_dpbusd_avx_epi32((__m256i){name}, (__m256i)m, (__m256i)m)",
    },
}


def _dots(target: Target, precision: str) -> str:
    """The C text of chains of dot products."""
    names = [f"a{k}" for k in range(_registers(target)[1])]
    dot = next(text for feature, text in _DOTS[precision].items() if feature in target.extras)
    return "\n".join(
        [
            "#include <immintrin.h>",
            f"API float peak_{precision}(long loops) {{",
            "    volatile float factor = 0.0f;",
            "    const vec m = (vec){0} + factor;",
            *(f"    vec {name} = (vec){{0}} + {k}.0f;" for k, name in enumerate(names)),
            "    for (long i = 0; i < loops; i++) {",
            *(f"        {name} = {dot.format(name=name)};" for name in names),
            *(f'        __asm__ volatile("" : "+{_constraint(target)}"({name}));' for name in names),
            "    }",
            f"    return ({' + '.join(names)})[0];",
            "}",
            "",
        ]
    )


def _registers(target: Target) -> tuple[int, int]:
    """Bytes of a vector, and how many chains there are."""
    return _REGISTERS.get(target.isa, _DEFAULT_REGISTERS)


def _source(target: Target) -> str:
    size, count = _registers(target)
    names = [f"a{k}" for k in range(count)]
    return "\n".join(
        [
            f"typedef float vec __attribute__((vector_size({size}), may_alias));",
            '#define API __attribute__((visibility("default")))',
            "",
            "/* Chains of multiply-adds that do not depend on each other. */",
            "API float peak_fp32(long loops) {",
            "    volatile float factor = 0.999f, term = 0.001f;",
            "    vec m = (vec){0} + factor, t = (vec){0} + term;",
            *(f"    vec {name} = m + {k}.0f;" for k, name in enumerate(names)),
            "    for (long i = 0; i < loops; i++) {",
            *(f"        {name} = {name} * m + t;" for name in names),
            "        /* Keeps every value in its register and every loop in the program. */",
            *(f'        __asm__ volatile("" : "+{_constraint(target)}"({name}));' for name in names),
            "    }",
            f"    return ({' + '.join(names)})[0];",
            "}",
            "",
            "/* Stores go past the caches, so that a line is not read before it is overwritten. */",
            "API void peak_copy(void *to, const void *from, long bytes) {",
            "    vec *out = to;",
            "    const vec *in = from;",
            "    long n = bytes / (long)sizeof(vec);",
            "    for (long i = 0; i < n; i += 4) {",
            "        vec a = in[i], b = in[i + 1], c = in[i + 2], d = in[i + 3];",
            *(f"        {_store(f'out[i + {k}]' if k else 'out[i]', v)}" for k, v in enumerate("abcd")),
            "    }",
            "}",
            "",
            "/* Copies a piece that the caches hold again and again. */",
            "API void peak_reuse(void *to, const void *from, long bytes, long times) {",
            "    vec *out = to;",
            "    const vec *in = from;",
            "    long n = bytes / (long)sizeof(vec);",
            "    for (long t = 0; t < times; t++) {",
            "        for (long i = 0; i < n; i += 4) {",
            "            vec a = in[i], b = in[i + 1], c = in[i + 2], d = in[i + 3];",
            "            out[i] = a, out[i + 1] = b, out[i + 2] = c, out[i + 3] = d;",
            "        }",
            '        __asm__ volatile("" : : : "memory");',
            "    }",
            "}",
            "",
        ]
    )


def _constraint(target: Target) -> str:
    return {"x86_64": "v" if target.isa == "avx512" else "x", "aarch64": "w"}.get(target.arch, "x")


def _store(place: str, value: str) -> str:
    return f"__builtin_nontemporal_store({value}, &{place});"


@cache
def _library(target: Target) -> ctypes.CDLL:
    path = toolchain.link_shared(toolchain.compile_all([source(target)], target), target)
    library = ctypes.CDLL(str(path))
    for precision in precisions_of(target):
        peak = getattr(library, f"peak_{precision}")
        peak.argtypes, peak.restype = [ctypes.c_long], ctypes.c_float
    library.peak_copy.argtypes, library.peak_copy.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long], None
    library.peak_reuse.argtypes, library.peak_reuse.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long], None
    return library


def _time(work: Callable[[int], object], threads: int, cpus: Sequence[int] | None) -> float:
    """Seconds from the first start to the last end of ``work(k)`` on every thread; the interpreter lock is not held in C."""
    barrier = threading.Barrier(threads)
    spans: list[tuple[float, float]] = []

    def run(index: int) -> None:
        if cpus is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, {cpus[index % len(cpus)]})  # of this thread
        barrier.wait()
        started = time.perf_counter()
        work(index)
        spans.append((started, time.perf_counter()))

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)
