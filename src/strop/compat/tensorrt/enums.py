"""TensorRT's enums: the union of all versions from 5 to 11. Values are TensorRT's where versions agree."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


def _enum(name: str, members: str, start: int = 0) -> Any:
    """An enum of names in order; ``OLD=NEW`` makes another name of a member."""
    values: dict[str, int] = {}
    for member in members.split():
        alias, _, same = member.partition("=")
        values[alias] = values[same] if same else start + len(set(values.values()))
    return IntEnum(name, values, module=__name__)


ActivationType = _enum(
    "ActivationType",
    "RELU SIGMOID TANH LEAKY_RELU ELU SELU SOFTSIGN SOFTPLUS CLIP HARD_SIGMOID SCALED_TANH THRESHOLDED_RELU GELU_ERF GELU_TANH",
)
AllocatorFlag = _enum("AllocatorFlag", "RESIZABLE")
AttentionNormalizationOp = _enum("AttentionNormalizationOp", "NONE SOFTMAX")
AttentionIOForm = _enum("AttentionIOForm", "PADDED_BHND PACKED_NHD")
BoundingBoxFormat = _enum("BoundingBoxFormat", "CORNER_PAIRS CENTER_SIZES")
BuilderFlag = _enum(
    "BuilderFlag",
    "FP16 INT8 DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS "
    "PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8 "
    "ERROR_ON_TIMING_CACHE_MISS BF16 DISABLE_COMPILATION_CACHE STRIP_PLAN WEIGHTLESS=STRIP_PLAN REFIT_IDENTICAL WEIGHT_STREAMING INT4 "
    "REFIT_INDIVIDUAL STRICT_NANS MONITOR_MEMORY FP4 EDITABLE_TIMING_CACHE DISTRIBUTIVE_INDEPENDENCE STRICT_TYPES ENABLE_TACTIC_HEURISTIC",
)
CalibrationAlgoType = _enum("CalibrationAlgoType", "LEGACY_CALIBRATION ENTROPY_CALIBRATION ENTROPY_CALIBRATION_2 MINMAX_CALIBRATION")
CausalMaskKind = _enum("CausalMaskKind", "NONE UPPER_LEFT LOWER_RIGHT")
CumulativeOperation = _enum("CumulativeOperation", "SUM")
DataType = _enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4 E8M0")
DeviceType = _enum("DeviceType", "GPU DLA")
ElementWiseOperation = _enum(
    "ElementWiseOperation", "SUM PROD MAX MIN SUB DIV POW FLOOR_DIV AND OR XOR EQUAL GREATER LESS"
)
EngineCapability = _enum("EngineCapability", "STANDARD DEFAULT=STANDARD SAFETY SAFE_GPU=SAFETY DLA_STANDALONE SAFE_DLA=DLA_STANDALONE")
ErrorCodeTRT = _enum(
    "ErrorCodeTRT",
    "SUCCESS UNSPECIFIED_ERROR INTERNAL_ERROR INVALID_ARGUMENT INVALID_CONFIG FAILED_ALLOCATION FAILED_INITIALIZATION "
    "FAILED_EXECUTION FAILED_COMPUTATION INVALID_STATE UNSUPPORTED_STATE",
)
ErrorCode = _enum(
    "ErrorCode",
    "SUCCESS INTERNAL_ERROR MEM_ALLOC_FAILED MODEL_DESERIALIZE_FAILED INVALID_VALUE INVALID_GRAPH INVALID_NODE UNSUPPORTED_GRAPH "
    "UNSUPPORTED_NODE UNSUPPORTED_NODE_ATTR UNSUPPORTED_NODE_INPUT UNSUPPORTED_NODE_DATATYPE UNSUPPORTED_NODE_DYNAMIC "
    "UNSUPPORTED_NODE_SHAPE REFIT_FAILED",
)
ExecutionContextAllocationStrategy = _enum("ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED")
FillOperation = _enum("FillOperation", "LINSPACE RANDOM_UNIFORM RANDOM_NORMAL")
GatherMode = _enum("GatherMode", "DEFAULT ELEMENT ND")
HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY")
InterpolationMode = _enum("InterpolationMode", "NEAREST LINEAR CUBIC")
ResizeMode = InterpolationMode
KVCacheMode = _enum("KVCacheMode", "LINEAR")
LayerInformationFormat = _enum("LayerInformationFormat", "ONELINE JSON")
LayerType = _enum(
    "LayerType",
    "CONVOLUTION CAST ACTIVATION POOLING LRN SCALE SOFTMAX DECONVOLUTION CONCATENATION ELEMENTWISE PLUGIN UNARY PADDING SHUFFLE REDUCE "
    "TOPK GATHER MATRIX_MULTIPLY RAGGED_SOFTMAX CONSTANT IDENTITY PLUGIN_V2 SLICE SHAPE PARAMETRIC_RELU RESIZE TRIP_LIMIT RECURRENCE "
    "ITERATOR LOOP_OUTPUT SELECT FILL QUANTIZE DEQUANTIZE CONDITION CONDITIONAL_INPUT CONDITIONAL_OUTPUT SCATTER EINSUM ASSERTION "
    "ONE_HOT NON_ZERO GRID_SAMPLE NMS REVERSE_SEQUENCE NORMALIZATION PLUGIN_V3 SQUEEZE UNSQUEEZE CUMULATIVE DYNAMIC_QUANTIZE "
    "FULLY_CONNECTED RNN_V2 ATTENTION_INPUT ATTENTION_OUTPUT ROTARY_EMBEDDING KVCACHE_UPDATE KV_CACHE_UPDATE=KVCACHE_UPDATE MOE DIST_COLLECTIVE",
)
LoopOutput = _enum("LoopOutput", "LAST_VALUE CONCATENATE REVERSE")
MatrixOperation = _enum("MatrixOperation", "NONE TRANSPOSE VECTOR")
MemoryPoolType = _enum(
    "MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM TACTIC_SHARED_MEMORY"
)
NetworkDefinitionCreationFlag = _enum(
    "NetworkDefinitionCreationFlag",
    "EXPLICIT_BATCH STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS PREFER_AOT_PYTHON_PLUGINS EXPLICIT_PRECISION",
)
OnnxParserFlag = _enum("OnnxParserFlag", "NATIVE_INSTANCENORM ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA REPORT_CAPABILITY_DLA")
PaddingMode = _enum(
    "PaddingMode", "EXPLICIT_ROUND_DOWN EXPLICIT_ROUND_UP SAME_UPPER SAME_LOWER CAFFE_ROUND_DOWN CAFFE_ROUND_UP"
)
PluginCapabilityType = _enum("PluginCapabilityType", "CORE BUILD RUNTIME")
PluginFieldType = _enum(
    "PluginFieldType", "FLOAT16 FLOAT32 FLOAT64 INT8 INT16 INT32 CHAR DIMS UNKNOWN BF16 INT64 FP8 INT4 FP4"
)
PoolingType = _enum("PoolingType", "MAX AVERAGE MAX_AVERAGE_BLEND")
PreviewFeature = _enum(
    "PreviewFeature",
    "FASTER_DYNAMIC_SHAPES_0805 DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805 PROFILE_SHARING_0806 ALIASED_PLUGIN_IO_10_03 "
    "RUNTIME_ACTIVATION_RESIZE_10_10 MULTIDEVICE_RUNTIME_10_16",
)
ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY DEFAULT=LAYER_NAMES_ONLY NONE DETAILED VERBOSE=DETAILED")
QuantizationFlag = _enum("QuantizationFlag", "CALIBRATE_BEFORE_FUSION")
ReduceOperation = _enum("ReduceOperation", "SUM PROD MAX MIN AVG")
ResizeCoordinateTransformation = _enum("ResizeCoordinateTransformation", "ALIGN_CORNERS ASYMMETRIC HALF_PIXEL")
ResizeRoundMode = _enum("ResizeRoundMode", "HALF_UP HALF_DOWN FLOOR CEIL")
ResizeSelector = _enum("ResizeSelector", "FORMULA UPPER")
RNNDirection = _enum("RNNDirection", "UNIDIRECTION BIDIRECTION")
RNNGateType = _enum("RNNGateType", "INPUT OUTPUT FORGET UPDATE RESET CELL HIDDEN")
RNNInputMode = _enum("RNNInputMode", "LINEAR SKIP")
RNNOperation = _enum("RNNOperation", "RELU TANH LSTM GRU")
RuntimePlatform = _enum("RuntimePlatform", "SAME_AS_BUILD WINDOWS_AMD64")
SampleMode = _enum("SampleMode", "STRICT_BOUNDS DEFAULT=STRICT_BOUNDS WRAP CLAMP FILL REFLECT")
SliceMode = SampleMode
ScaleMode = _enum("ScaleMode", "UNIFORM CHANNEL ELEMENTWISE")
ScatterMode = _enum("ScatterMode", "ELEMENT ND")
SerializationFlag = _enum("SerializationFlag", "EXCLUDE_WEIGHTS EXCLUDE_LEAN_RUNTIME INCLUDE_REFIT")
Severity = _enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
TacticSource = _enum("TacticSource", "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS")
TempfileControlFlag = _enum("TempfileControlFlag", "ALLOW_IN_MEMORY_FILES ALLOW_TEMPORARY_FILES")
TensorFormat = _enum(
    "TensorFormat", "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 DHWC8 CDHW32 HWC DLA_LINEAR DLA_HWC4 HWC16 DHWC NCHW=LINEAR NHWC8=HWC8"
)
TensorIOMode = _enum("TensorIOMode", "NONE INPUT OUTPUT")
TensorLocation = _enum("TensorLocation", "DEVICE HOST")
TensorRTPhase = _enum("TensorRTPhase", "BUILD RUNTIME")
TilingOptimizationLevel = _enum("TilingOptimizationLevel", "NONE FAST MODERATE FULL")
TopKOperation = _enum("TopKOperation", "MAX MIN")
TripLimit = _enum("TripLimit", "COUNT WHILE")
UnaryOperation = _enum(
    "UnaryOperation",
    "EXP LOG SQRT RECIP ABS NEG SIN COS TAN SINH COSH ASIN ACOS ATAN ASINH ACOSH ATANH CEIL FLOOR ERF NOT SIGN ROUND ISINF ISNAN",
)
WeightsRole = _enum("WeightsRole", "KERNEL BIAS SHIFT SCALE CONSTANT ANY")
