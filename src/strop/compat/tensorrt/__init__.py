"""TensorRT's Python API, of versions 5 to 11, on Strop: ``import strop.compat.tensorrt as trt``.

Calls of all versions work side by side. Where versions contradict each other, ``strop.compat.level.set_level`` or the variable
``STROP_COMPAT_LEVEL`` says which one is meant. Memory is the processor's: addresses come from ``strop.compat.pycuda`` and
``strop.compat.cudart``, or from any numpy array. docs/tensorrt-coverage.md says what works, member by member.
"""

from typing import Any

from strop.compat.tensorrt import control, enums, eras, later, layers, plugin_types, streams
from strop.compat.tensorrt import plugins as plugin
from strop.compat.tensorrt.basics import (
    Dims,
    Dims2,
    Dims3,
    Dims4,
    DimsHW,
    IErrorRecorder,
    IHostMemory,
    ILogger,
    Logger,
    Permutation,
    Weights,
    nptype,
    volume,
)
from strop.compat.tensorrt.builder import Builder
from strop.compat.tensorrt.config import (
    IAlgorithmSelector,
    IBuilderConfig,
    IInt8Calibrator,
    IInt8EntropyCalibrator,
    IInt8EntropyCalibrator2,
    IInt8LegacyCalibrator,
    IInt8MinMaxCalibrator,
    IOptimizationProfile,
    IProgressMonitor,
)
from strop.compat.tensorrt.context import (
    IDebugListener,
    IExecutionContext,
    IOutputAllocator,
    IProfiler,
    Profiler,
)
from strop.compat.tensorrt.inspector import EngineInspector
from strop.compat.tensorrt.network import INetworkDefinition
from strop.compat.tensorrt.parser import OnnxParser, OnnxParserRefitter, ParserError
from strop.compat.tensorrt.refitter import Refitter
from strop.compat.tensorrt.runtime import ICudaEngine, ISerializationConfig, Runtime
from strop.compat.tensorrt.tensor import ITensor
from strop.compat.tensorrt.timing import ITimingCache

DataType = enums.DataType
float32, float16, int8, int32, bool, uint8, fp8, bfloat16, int64, int4, fp4, e8m0 = DataType
for _module in (enums, layers, control, later, plugin_types, streams):
    globals().update({name: getattr(_module, name) for name in dir(_module) if name[0].isupper() and name not in globals() and not name.isupper()})
get_plugin_registry = plugin_types.get_plugin_registry
get_builder_plugin_registry = plugin_types.get_builder_plugin_registry
__version__ = "11.1.0"


def init_libnvinfer_plugins(logger: Any, namespace: str = "") -> Any:
    """True: what TensorRT's plugin library has is part of Strop or refused by name."""
    return True


def get_nv_onnx_parser_version() -> int:
    """The parser's version as a number."""
    return 110100
