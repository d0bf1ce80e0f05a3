"""Energy meters, on file systems made for the purpose."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from strop.engine import energy
from strop.engine.energy import Energy, Gauge, find_meter


def put(root: Path, files: dict[str, object]) -> None:
    for name, value in files.items():
        path = root / "sys/class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def test_rapl_counts_packages_and_wraps(tmp_path: Path) -> None:
    zone = "powercap/intel-rapl:0"
    put(tmp_path, {f"{zone}/name": "package-0", f"{zone}/energy_uj": 9_000_000, f"{zone}/max_energy_range_uj": 10_000_000,
                   "powercap/intel-rapl:0:0/name": "core", "powercap/intel-rapl:0:0/energy_uj": 5})  # fmt: skip
    with Gauge(tmp_path) as gauge:
        put(tmp_path, {f"{zone}/energy_uj": 1_000_000})
    assert gauge.found.joules == pytest.approx(2.0)
    assert gauge.found.meter == "RAPL package-0" and gauge.found.reason == ""
    assert gauge.found.per(4) == pytest.approx(0.5)
    assert gauge.found.watts == pytest.approx(2.0 / gauge.found.seconds)


def test_energy_and_power_of_board_monitors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "PERIOD", 0.005)
    put(tmp_path, {"hwmon/hwmon0/name": "coretemp", "hwmon/hwmon1/name": "ina3221",
                   "hwmon/hwmon1/in1_input": 5000, "hwmon/hwmon1/curr1_input": 800})  # fmt: skip
    with Gauge(tmp_path) as gauge:
        time.sleep(0.05)
    assert gauge.found.meter == "hwmon ina3221"
    assert gauge.found.watts == pytest.approx(4.0, rel=0.1)
    put(tmp_path, {"hwmon/hwmon2/name": "amd_energy", "hwmon/hwmon2/energy1_input": 1_000_000})
    with Gauge(tmp_path) as gauge:
        put(tmp_path, {"hwmon/hwmon2/energy1_input": 4_000_000})
    assert gauge.found.joules == pytest.approx(3.0) and gauge.found.meter == "hwmon amd_energy"


def test_a_battery_counts_only_while_it_discharges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "PERIOD", 0.005)
    battery = "power_supply/BAT0"
    put(tmp_path, {f"{battery}/type": "Battery", f"{battery}/status": "Charging", f"{battery}/power_now": 6_000_000})
    meter, reason = find_meter(tmp_path)
    assert meter is None and "does not discharge" in reason
    put(tmp_path, {f"{battery}/status": "Discharging"})
    with Gauge(tmp_path) as gauge:
        time.sleep(0.03)
    assert gauge.found.watts == pytest.approx(6.0, rel=0.2) and "BAT0" in gauge.found.meter


def test_without_a_meter_the_reason_is_told(tmp_path: Path) -> None:
    with Gauge(tmp_path) as gauge:
        pass
    assert gauge.found.joules is None and gauge.found.watts is None and gauge.found.per(3) is None
    for word in ("RAPL: no package counter", "hwmon: no power monitor", "battery: none"):
        assert word in gauge.found.reason
    assert gauge.found.to_json()["joules"] is None


def test_a_counter_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    put(tmp_path, {"powercap/intel-rapl:0/name": "package-0", "powercap/intel-rapl:0/energy_uj": "denied"})
    meter, reason = find_meter(tmp_path)
    assert meter is None and "cannot be read (only root may" in reason


def test_the_gpus_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    counts = iter([500, 1000, 4000])
    fake = SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda k: k,
        nvmlDeviceGetTotalEnergyConsumption=lambda h: next(counts), __spec__=object(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    with Gauge.of("cuda:sm_90") as gauge:
        pass
    assert gauge.found.joules == pytest.approx(3.0) and gauge.found.meter == "NVML, 1 GPU"

    with Gauge.of("x86-64-v3") as gauge:
        pass
    assert not gauge.found.meter.startswith("NVML")

    def refuse() -> None:
        raise NVMLError("Driver Not Loaded")

    fake.nvmlInit = refuse
    meter, reason = find_meter(device="gpu")
    assert meter is None and reason == "NVML: Driver Not Loaded"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_meter(device="gpu")[1] == "NVML: the package nvidia-ml-py is not installed"


def test_joules_are_plain_json() -> None:
    assert Energy(3.0, 1.5, "m").to_json() == {"joules": 3.0, "seconds": 1.5, "meter": "m", "reason": "", "watts": 2.0}
