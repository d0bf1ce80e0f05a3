"""Energy of a stretch of time, from whatever meter the machine has.

Meters, best first: RAPL counters of the processor (Linux powercap), the GPU's counter (NVML, where ``nvidia-ml-py`` is installed), power monitors
such as INA on boards (hwmon), the battery while it discharges. Counters are read before and after; powers are sampled in between.
What a meter sees is the whole package, board or computer, with everything else that runs on it, idle power included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

#: Seconds between two samples of a power.
PERIOD = 0.02


@dataclass(frozen=True)
class Energy:
    """What was measured.

    Attributes:
        joules: in ``seconds``; None where no meter can be read.
        seconds: between the two readings.
        meter: which one, and what it covers; empty without any.
        reason: why there is none, meter by meter; else empty.
    """

    joules: float | None
    seconds: float
    meter: str = ""
    reason: str = ""

    def per(self, count: float) -> float | None:
        """Joules for each of ``count`` things that were done in the time."""
        return None if self.joules is None or count <= 0 else self.joules / count

    @property
    def watts(self) -> float | None:
        """Mean power."""
        return None if self.joules is None or self.seconds <= 0 else self.joules / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {**asdict(self), "watts": self.watts}


@dataclass(frozen=True)
class Meter:
    """A source of readings.

    Attributes:
        name: what it is and covers.
        counters: each gives joules since some start.
        wraps: joules at which a counter begins anew, or 0; one per counter.
        powers: each gives watts now; of a meter without counters.
    """

    name: str
    counters: tuple[Callable[[], float], ...] = ()
    wraps: tuple[float, ...] = ()
    powers: tuple[Callable[[], float], ...] = ()


class Gauge:
    """Measures between enter and exit of a ``with``; ``found`` has the result then."""

    def __init__(self, root: Path = Path("/"), device: str = "cpu") -> None:
        """Looks for a meter.

        Args:
            root: of the file system that ``sys`` is in.
            device: ``cpu``, or ``gpu`` for the GPU's counter.
        """
        self._meter, self._reason = find_meter(root, device)
        self._stop = threading.Event()
        self._joules = 0.0
        self.found = Energy(None, 0.0, "", self._reason)

    @classmethod
    def of(cls, target: object) -> Gauge:
        """For engines of a target, by its name: the GPU's counter for ``cuda:...``, else the processor's."""
        return cls(device="gpu" if str(target).startswith("cuda:") else "cpu")

    def __enter__(self) -> Gauge:
        self._started = time.perf_counter()
        self._before: list[float] = []
        if self._meter is not None:
            self._before = [read() for read in self._meter.counters]
            if self._meter.powers:
                self._sampler = threading.Thread(target=self._sample, args=(self._meter.powers,), daemon=True)
                self._sampler.start()
        return self

    def _sample(self, powers: Sequence[Callable[[], float]]) -> None:
        """Sums power over time by the trapezoidal rule."""
        last, watts = time.perf_counter(), sum(read() for read in powers)
        while True:
            stopped = self._stop.wait(PERIOD)
            now, current = time.perf_counter(), sum(read() for read in powers)
            self._joules += 0.5 * (watts + current) * (now - last)
            last, watts = now, current
            if stopped:
                return

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._started
        if self._meter is None:
            self.found = Energy(None, seconds, "", self._reason)
            return
        joules = 0.0
        for read, before, wrap in zip(self._meter.counters, self._before, self._meter.wraps):
            delta = read() - before
            joules += delta + wrap if delta < 0 else delta
        if self._meter.powers:
            self._stop.set()
            self._sampler.join()
            joules = self._joules
        self.found = Energy(joules, seconds, self._meter.name)


def find_meter(root: Path = Path("/"), device: str = "cpu") -> tuple[Meter | None, str]:
    """The best meter that can be read, or None and why each kind cannot."""
    kinds: tuple[tuple[str, Callable[[Path], Meter | str]], ...] = (
        (("NVML", _nvml),)
        if device == "gpu"
        else (("RAPL", _rapl), ("hwmon", _hwmon), ("battery", _battery))
    )
    reasons = []
    for name, look in kinds:
        found = look(root)
        if isinstance(found, Meter):
            return found, ""
        reasons.append(f"{name}: {found}")
    return None, "; ".join(reasons)


def _rapl(root: Path) -> Meter | str:
    """Energy counters of every package, in microjoules (Linux, Documentation/power/powercap/powercap.rst)."""
    folder = root / "sys/class/powercap"
    zones = [z for z in sorted(folder.glob("*-rapl:*")) if z.name.count(":") == 1 and _text(z / "name").startswith("package")]
    if not zones:
        return f"no package counter under {folder} (the processor or the virtual machine has none)"
    names, counters, wraps = [], [], []
    for zone in zones:
        if _number(zone / "energy_uj") is None:
            return f"{zone / 'energy_uj'} cannot be read (only root may, by default)"
        names.append(_text(zone / "name"))
        counters.append(_reader(zone / "energy_uj", 1e-6))
        wraps.append((_number(zone / "max_energy_range_uj") or 0.0) * 1e-6)
    return Meter(f"RAPL {', '.join(names)}", tuple(counters), tuple(wraps))


def _hwmon(root: Path) -> Meter | str:
    """Energy counters in microjoules, else powers in microwatts, else volts times amperes of power monitors (Linux,
    Documentation/hwmon/sysfs-interface.rst)."""
    folder = root / "sys/class/hwmon"
    chips = sorted(folder.glob("hwmon*"))
    for chip in chips:
        label = f"hwmon {_text(chip / 'name') or chip.name}"
        energies = [p for p in sorted(chip.glob("energy*_input")) if _number(p) is not None]
        if energies:
            return Meter(label, tuple(_reader(p, 1e-6) for p in energies), (0.0,) * len(energies))
    for chip in chips:
        label = f"hwmon {_text(chip / 'name') or chip.name}"
        powers = [p for kind in ("input", "average") for p in sorted(chip.glob(f"power*_{kind}")) if _number(p) is not None]
        if powers:
            return Meter(label, powers=tuple(_reader(p, 1e-6) for p in powers))
        pairs = [(c, chip / c.name.replace("curr", "in")) for c in sorted(chip.glob("curr*_input"))]
        rails = [_product(c, v, 1e-6) for c, v in pairs if _number(c) is not None and _number(v) is not None]
        if rails:
            return Meter(label, powers=tuple(rails))
    return f"no power monitor under {folder}"


def _battery(root: Path) -> Meter | str:
    """Power drawn from batteries, in microwatts or microamperes times microvolts (Linux, Documentation/ABI/testing/sysfs-class-power)."""
    folder = root / "sys/class/power_supply"
    batteries = [b for b in sorted(folder.glob("*")) if _text(b / "type") == "Battery"]
    if not batteries:
        return f"none under {folder}"
    draining = [b for b in batteries if _text(b / "status") == "Discharging"]
    if not draining:
        return "it does not discharge; pull the plug to measure by it"
    powers = []
    for battery in draining:
        if _number(battery / "power_now") is not None:
            powers.append(_reader(battery / "power_now", 1e-6))
        elif _number(battery / "current_now") is not None and _number(battery / "voltage_now") is not None:
            powers.append(_product(battery / "current_now", battery / "voltage_now", 1e-12))
    if not powers:
        return "it tells neither power nor current"
    return Meter(f"battery {', '.join(b.name for b in draining)} (the whole computer)", powers=tuple(powers))


def _nvml(root: Path) -> Meter | str:
    """The GPUs' energy since the driver was loaded, in millijoules (NVML, nvmlDeviceGetTotalEnergyConsumption)."""
    if find_spec("pynvml") is None:
        return "the package nvidia-ml-py is not installed"
    import pynvml

    library: Any = pynvml
    try:
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
        readers = tuple(_gpu_reader(library, library.nvmlDeviceGetHandleByIndex(k)) for k in range(count))
        for read in readers:
            read()
    except library.NVMLError as error:
        return str(error)
    if not readers:
        return "no GPU"
    return Meter(f"NVML, {count} GPU{'s' * (count != 1)}", readers, (0.0,) * count)


def _gpu_reader(library: Any, handle: Any) -> Callable[[], float]:
    return lambda: float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1e-3


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace").strip()
    return ""


def _number(path: Path) -> float | None:
    with suppress(ValueError):
        return float(_text(path))
    return None


def _reader(path: Path, unit: float) -> Callable[[], float]:
    return lambda: (_number(path) or 0.0) * unit


def _product(a: Path, b: Path, unit: float) -> Callable[[], float]:
    return lambda: (_number(a) or 0.0) * (_number(b) or 0.0) * unit
