"""IBuilderConfig, optimization profiles, timing caches, progress monitors, calibrators."""

from __future__ import annotations

from typing import Any

from strop.compat import level
from strop.compat.tensorrt import enums
from strop.compat.tensorrt.basics import Dims, Flags, ILogger, Managed, failed, note
from strop.compat.tensorrt.enums import BuilderFlag, CalibrationAlgoType, MemoryPoolType
from strop.compat.tensorrt.timing import ITimingCache


class IOptimizationProfile:
    """Ranges of the free axes of inputs."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, Any, Any]] = {}
        self.values: dict[str, tuple[Any, Any, Any]] = {}
        self.extra_memory_target = 1.0

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        """Least, optimal and largest shape of an input."""
        least, best, most = (tuple(int(d) for d in shape) for shape in (min, opt, max))
        if not len(least) == len(best) == len(most) or any(not a <= b <= c for a, b, c in zip(least, best, most)):
            raise ValueError(f"the shapes of {input} are out of order: {least} {best} {most}")
        self.shapes[input] = (least, best, most)

    def get_shape(self, input: str) -> list[Dims]:
        """[min, opt, max] of an input; an empty list where none was set."""
        return [Dims(shape) for shape in self.shapes.get(input, ())]

    def set_shape_input(self, input: str, min: Any, opt: Any, max: Any) -> None:
        """Least, optimal and largest values of an input that holds sizes."""
        self.values[input] = (tuple(min), tuple(opt), tuple(max))

    def get_shape_input(self, input: str) -> list[Any]:
        """[min, opt, max] values of an input that holds sizes."""
        return [list(value) for value in self.values.get(input, ())]

    def __bool__(self) -> bool:
        return True

    __nonzero__ = __bool__


class IProgressMonitor:
    """Told of the phases of a build; subclasses override the methods."""

    def __init__(self) -> None:
        return None

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase of so many steps begins."""

    def step_complete(self, phase_name: str, step: int) -> bool:
        """A step is done; False ends the build."""
        return True

    def phase_finish(self, phase_name: str) -> None:
        """A phase is over."""


class IInt8Calibrator:
    """Data for INT8; subclasses override ``get_batch_size``, ``get_batch`` and the two methods for a cache."""

    algorithm: Any = CalibrationAlgoType.MINMAX_CALIBRATION

    def __init__(self) -> None:
        return None

    def get_batch_size(self) -> int:
        """Samples per batch."""
        return 1

    def get_batch(self, names: list[str]) -> Any:
        """Addresses of a batch of every input; None or an empty list at the end."""
        return None

    def read_calibration_cache(self) -> Any:
        """Bytes of an earlier calibration, or None."""
        return None

    def write_calibration_cache(self, cache: Any) -> None:
        """Called with the bytes of this calibration."""

    def get_algorithm(self) -> Any:
        """Which algorithm."""
        return type(self).algorithm


class IInt8LegacyCalibrator(IInt8Calibrator):
    """Percentiles of the histogram."""

    algorithm = CalibrationAlgoType.LEGACY_CALIBRATION
    quantile = property(lambda self: 0.9999)
    regression_cutoff = property(lambda self: 1.0)

    def get_quantile(self) -> float:
        """Share of values within the range."""
        return 0.9999


class IInt8EntropyCalibrator(IInt8Calibrator):
    """Least divergence of the histogram."""

    algorithm = CalibrationAlgoType.ENTROPY_CALIBRATION


class IInt8EntropyCalibrator2(IInt8Calibrator):
    """Least divergence of the histogram, per tensor after fusion."""

    algorithm = CalibrationAlgoType.ENTROPY_CALIBRATION_2


class IInt8MinMaxCalibrator(IInt8Calibrator):
    """The least and largest value."""


_PRECISIONS = {BuilderFlag.FP16, BuilderFlag.BF16, BuilderFlag.INT8, BuilderFlag.FP8, BuilderFlag.INT4, BuilderFlag.FP4}


class IAlgorithmSelector:
    """Chooses among tactics; not asked, as Strop measures."""

    def __init__(self) -> None:
        return None


class IBuilderConfig(Managed, Flags):
    """Settings of a build."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self.reset()

    def reset(self) -> None:
        """All settings as they were at first."""
        self.flags = 1 << int(BuilderFlag.TF32)
        self.profiles: list[IOptimizationProfile] = []
        self.int8_calibrator: Any = None
        self.quantization_flags = 0
        self.max_workspace_size = 1 << 30
        self.min_timing_iterations = 1
        self.avg_timing_iterations = 1
        self.engine_capability = enums.EngineCapability.STANDARD
        self.default_device_type = enums.DeviceType.GPU
        self.DLA_core = -1
        self.profile_stream = 0
        self.profiling_verbosity = enums.ProfilingVerbosity.LAYER_NAMES_ONLY
        self.algorithm_selector: Any = None
        self.builder_optimization_level = 3
        self.hardware_compatibility_level = enums.HardwareCompatibilityLevel.NONE
        self.runtime_platform = enums.RuntimePlatform.SAME_AS_BUILD
        self.plugins_to_serialize: list[str] = []
        self.max_aux_streams = 0
        self.max_num_tactics = -1
        self.tiling_optimization_level = enums.TilingOptimizationLevel.NONE
        self.l2_limit_for_tiling = 0
        self.progress_monitor: Any = None
        self.remote_auto_tuning_config = ""
        self._pools: dict[Any, int] = {}
        self._devices: dict[int, Any] = {}
        self._preview: dict[Any, bool] = {}
        self._sources = sum(1 << int(s) for s in enums.TacticSource)
        self._cache: ITimingCache | None = None
        self._calibration_profile: IOptimizationProfile | None = None

    # ---- flags

    def set_flag(self, flag: Any) -> bool:
        """Sets a flag; AttributeError for one of a precision at the level 11, whose networks are typed."""
        if (level.current() or 0) >= 11 and flag in _PRECISIONS:
            raise AttributeError(f"BuilderFlag has no member {flag.name} in TensorRT 11 (compat level {level.current()})")
        return super().set_flag(flag)

    def set_quantization_flag(self, flag: Any) -> None:
        """Sets a flag."""
        self.quantization_flags |= 1 << int(flag)

    def clear_quantization_flag(self, flag: Any) -> None:
        """Clears a flag."""
        self.quantization_flags &= ~(1 << int(flag))

    def get_quantization_flag(self, flag: Any) -> bool:
        """Whether a flag is set."""
        return bool(self.quantization_flags >> int(flag) & 1)

    # ---- profiles

    @property
    def num_optimization_profiles(self) -> int:
        """How many profiles were added."""
        return len(self.profiles)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Adds a profile; its number."""
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        """Ranges to calibrate with."""
        self._calibration_profile = profile
        return True

    def get_calibration_profile(self) -> IOptimizationProfile | None:
        """Ranges to calibrate with."""
        return self._calibration_profile

    # ---- memory, sources, caches

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        """The most memory of a kind; kept and not enforced."""
        self._pools[pool] = int(pool_size)
        note(self._logger, f"memory pool limit {MemoryPoolType(pool).name}")

    def get_memory_pool_limit(self, pool: Any) -> int:
        """The most memory of a kind."""
        return self._pools.get(pool, self.max_workspace_size if pool == MemoryPoolType.WORKSPACE else 0)

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        """Libraries that kernels may come from; Strop makes its own."""
        self._sources = int(tactic_sources)
        note(self._logger, "tactic sources")
        return True

    def get_tactic_sources(self) -> int:
        """What was set."""
        return self._sources

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        """A cache of bytes, empty ones too; None for bytes that are none."""
        try:
            return ITimingCache(bytes(serialized_timing_cache))
        except ValueError as error:
            return failed(self._logger, error)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Uses a cache: the build reads it and adds to it."""
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        """The cache in use; after a build it holds the records of this machine."""
        self._cache = self._cache or ITimingCache()
        return self._cache

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        """Kept and without effect."""
        self._preview[feature] = enable

    def get_preview_feature(self, feature: Any) -> bool:
        """What was set."""
        return self._preview.get(feature, False)

    # ---- devices

    def set_device_type(self, layer: Any, device_type: Any) -> None:
        """Kept and without effect: a network is built whole for one machine."""
        self._devices[id(layer.own)] = device_type
        note(self._logger, "device type of a layer")

    def get_device_type(self, layer: Any) -> Any:
        """What was set."""
        return self._devices.get(id(layer.own), self.default_device_type)

    def is_device_type_set(self, layer: Any) -> bool:
        """Whether it was set."""
        return id(layer.own) in self._devices

    def reset_device_type(self, layer: Any) -> None:
        """Forgets it."""
        self._devices.pop(id(layer.own), None)

    def can_run_on_DLA(self, layer: Any) -> bool:
        """False: there is no DLA."""
        return False
