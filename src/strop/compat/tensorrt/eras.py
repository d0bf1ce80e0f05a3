"""What an explicit compat level takes away: members that its version of TensorRT does not have any more raise its AttributeError."""

from __future__ import annotations

from typing import Any

from strop.compat import level
from strop.compat.tensorrt import layers
from strop.compat.tensorrt.builder import Builder
from strop.compat.tensorrt.config import IBuilderConfig
from strop.compat.tensorrt.context import IExecutionContext
from strop.compat.tensorrt.network import INetworkDefinition
from strop.compat.tensorrt.parser import OnnxParser
from strop.compat.tensorrt.refitter import Refitter
from strop.compat.tensorrt.runtime import ICudaEngine
from strop.compat.tensorrt.tensor import ITensor

#: Version to what it has removed.
REMOVED: dict[int, dict[type, str]] = {
    10: {
        INetworkDefinition: "has_explicit_precision add_convolution add_deconvolution add_fully_connected add_padding add_pooling add_rnn_v2",
        Builder: "build_engine build_cuda_engine",
        IExecutionContext: "execute execute_async execute_async_v2 get_strides get_shape set_shape_input set_binding_shape get_binding_shape",
        ICudaEngine: (
            "num_bindings max_batch_size get_location binding_is_input get_binding_name get_binding_index get_binding_shape get_binding_dtype "
            "get_binding_format get_binding_format_desc get_binding_vectorized_dim get_binding_bytes_per_component "
            "get_binding_components_per_element get_profile_shape_input is_shape_binding is_execution_binding"
        ),
        layers.IConvolutionLayer: "kernel_size stride padding dilation",
        layers.IPoolingLayer: "window_size stride padding",
        layers.IPaddingLayer: "pre_padding post_padding",
    },
    11: {
        Builder: "platform_has_tf32 platform_has_fast_fp16 platform_has_fast_int8",
        IBuilderConfig: "set_quantization_flag get_quantization_flag clear_quantization_flag set_calibration_profile get_calibration_profile",
        ICudaEngine: "has_implicit_batch_dimension device_memory_size get_profile_shape create_execution_context_without_device_memory",
        ITensor: "set_dynamic_range reset_dynamic_range",
        Refitter: "set_dynamic_range get_dynamic_range get_tensors_with_dynamic_range",
        OnnxParser: "supports_model",
        layers.ILayer: "precision precision_is_set reset_precision set_output_type output_type_is_set reset_output_type",
        layers.INormalizationLayer: "compute_precision",
    },
}


class Gone:
    """Stands for a member that a version does not have."""

    def __init__(self, owner: type, name: str, version: int) -> None:
        self._text = f"'{owner.__name__}' object has no attribute '{name}': TensorRT {version} removed it (compat level {level.current()})"

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        raise AttributeError(self._text)

    def __set__(self, owner: Any, value: Any) -> None:
        raise AttributeError(self._text)


_saved: list[tuple[type, str, Any]] = []


def apply() -> None:
    """Takes away what the level's version does not have, and gives back the rest."""
    while _saved:
        cls, name, old = _saved.pop()
        if old is None:
            delattr(cls, name)
        else:
            setattr(cls, name, old)
    current = level.current()
    for version, classes in REMOVED.items():
        if current is not None and current >= version:
            for cls, names in classes.items():
                for name in names.split():
                    _saved.append((cls, name, cls.__dict__.get(name)))
                    setattr(cls, name, Gone(cls, name, version))


level.watch(apply)
