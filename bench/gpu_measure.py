"""What measurements of nets on a GPU share: inputs, errors, the device's time, the latency and the energy of a run."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from bench.nets import Net
from strop.runtime.gpu_session import GpuContext

#: Largest relative error, ||y - oracle|| / ||oracle||.
LIMITS = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}
#: Scale of the random images: random weights let values grow, and f16 ends at 65504.
SCALE = np.float32(0.1)
#: Seconds of one measurement, and how many there are.
_SPAN, _TIMES = 0.05, 7
#: Seconds over which energy is counted.
_ENERGY = 1.0


def images(net: Net) -> np.ndarray:
    """Two random inputs of a net."""
    (_, shape), *_ = net.inputs
    return np.random.default_rng(0).standard_normal((2, *shape[1:])).astype(np.float32) * SCALE


def repeated(x: np.ndarray, batch: int) -> np.ndarray:
    """A batch of the given rows over and over."""
    return np.ascontiguousarray(np.resize(x, (batch, *x.shape[1:])))


def per_run(time_of: Callable[[int], float]) -> tuple[float, float]:
    """(median, spread) of seconds per run; ``time_of(n)`` gives the seconds of n runs in a row."""
    time_of(3)
    once = max(time_of(3) / 3, 1e-6)
    count = max(3, math.ceil(_SPAN / once))
    found = sorted(time_of(count) / count for _ in range(_TIMES))
    return statistics.median(found), found[-1] / found[0] - 1


def timed(context: GpuContext) -> dict[str, float]:
    """Milliseconds of a run on the device, their spread, and the latency of single runs."""
    seconds, spread = per_run(lambda n: context.time(repeats=n))
    return {"ms": seconds * 1e3, "spread": spread, **latency(context)}


class Energy:
    """NVML's counter of a GPU's energy."""

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError:
            self._nvml = None
            return
        pynvml.nvmlInit()
        self._nvml, self._handle = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)

    def joules(self, run: Callable[[int], float], once: float) -> float | None:
        """Joules per run, counted over about a second of runs; None without NVML."""
        if self._nvml is None:
            return None
        count = max(1, round(_ENERGY / once))
        before = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        run(count)
        after = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return float(after - before) / 1e3 / count


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """||found - wanted|| / ||wanted||; infinite where a number is not finite."""
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b)) if np.isfinite(a).all() else math.inf


def latency(context: GpuContext) -> dict[str, float]:
    """Milliseconds of single runs with inputs on the device, launch and wait included: median and 99th percentile."""
    found = []
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end or len(found) < 20:
        begin = time.perf_counter()
        context.launch()
        context.synchronize()
        found.append((time.perf_counter() - begin) * 1e3)
    return {"p50_ms": float(np.percentile(found, 50)), "p99_ms": float(np.percentile(found, 99))}
