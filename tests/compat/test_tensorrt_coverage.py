"""docs/tensorrt-coverage.md: for every member of TensorRT 8.6 and 11.1, whether it works, has no effect, or is refused."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import strop.compat.tensorrt as trt

DOC = Path(__file__).parents[2] / "docs" / "tensorrt-coverage.md"
MEMBERS = Path(__file__).with_name("tensorrt_members.txt")

#: Members that are accepted, kept where they are settings, and change nothing.
NO_EFFECT = {
    "IBuilderConfig": (
        "DLA_core algorithm_selector avg_timing_iterations can_run_on_DLA default_device_type engine_capability get_device_type "
        "get_memory_pool_limit get_preview_feature get_tactic_sources hardware_compatibility_level is_device_type_set "
        "l2_limit_for_tiling max_aux_streams max_num_tactics plugins_to_serialize profile_stream remote_auto_tuning_config "
        "reset_device_type runtime_platform set_device_type set_memory_pool_limit set_preview_feature set_tactic_sources "
        "tiling_optimization_level max_workspace_size min_timing_iterations quantization_flags set_quantization_flag "
        "clear_quantization_flag get_quantization_flag create_timing_cache set_timing_cache get_timing_cache"
    ),
    "Builder": "gpu_allocator max_DLA_batch_size max_threads num_DLA_cores",
    "Runtime": "DLA_core gpu_allocator max_threads num_DLA_cores tempfile_control_flags temporary_directory engine_host_code_allowed",
    "IExecutionContext": (
        "debug_sync device_memory get_debug_listener get_debug_state get_input_consumed_event nvtx_verbosity persistent_cache_limit "
        "set_aux_streams set_debug_listener set_device_memory set_input_consumed_event temporary_allocator "
        "unfused_tensors_debug_state"
    ),
    "INetworkDefinition": "remove_tensor mark_debug unmark_debug is_debug_tensor mark_weights_refittable unmark_weights_refittable",
    "ITimingCache": "serialize combine reset",
    "ICudaEngine": "weight_streaming_budget_v2 streamable_weights_size num_aux_streams tactic_sources hardware_compatibility_level",
    "Refitter": "max_threads weights_validation",
    "OnnxParser": "set_flag clear_flag get_flag flags",
    "ITensor": "location allowed_formats",
    "ILayer": "metadata",
}

#: What the deck's code and the samples of all eras touch.
TOUCHED = ["Logger.__init__", "ILogger.__init__", "Builder.__init__", "Builder.create_network", "Builder.create_builder_config", "Builder.build_serialized_network", "Builder.build_engine", "Builder.max_batch_size", "Builder.create_optimization_profile", "Builder.platform_has_fast_int8", "Builder.platform_has_fast_fp16", "INetworkDefinition.add_input", "INetworkDefinition.mark_output", "INetworkDefinition.add_convolution", "INetworkDefinition.add_convolution_nd", "INetworkDefinition.add_pooling", "INetworkDefinition.add_pooling_nd", "INetworkDefinition.add_fully_connected", "INetworkDefinition.add_activation", "INetworkDefinition.add_shuffle", "INetworkDefinition.add_constant", "INetworkDefinition.add_matrix_multiply", "INetworkDefinition.add_elementwise", "INetworkDefinition.add_softmax", "INetworkDefinition.add_concatenation", "INetworkDefinition.add_plugin_v2", "INetworkDefinition.add_plugin_v3", "INetworkDefinition.add_identity", "INetworkDefinition.add_cast", "INetworkDefinition.add_topk", "INetworkDefinition.add_rnn_v2", "INetworkDefinition.get_input", "INetworkDefinition.get_output", "INetworkDefinition.get_layer", "INetworkDefinition.num_layers", "INetworkDefinition.num_inputs", "INetworkDefinition.num_outputs", "INetworkDefinition.set_weights_name", "INetworkDefinition.add_scale", "INetworkDefinition.add_unary", "INetworkDefinition.add_reduce", "INetworkDefinition.add_slice", "INetworkDefinition.add_gather", "INetworkDefinition.add_quantize", "INetworkDefinition.add_dequantize", "INetworkDefinition.add_non_zero", "INetworkDefinition.add_resize", "IConvolutionLayer.stride", "IConvolutionLayer.stride_nd", "IConvolutionLayer.padding_nd", "IPoolingLayer.stride", "IPoolingLayer.stride_nd", "ILayer.get_output", "ILayer.get_input", "ILayer.name", "ILayer.precision", "ILayer.set_output_type", "ILayer.type", "ITensor.name", "ITensor.shape", "ITensor.dtype", "ITensor.set_dynamic_range", "IConcatenationLayer.axis", "IShuffleLayer.reshape_dims", "IShuffleLayer.first_transpose", "IRNNv2Layer.set_weights_for_gate", "IRNNv2Layer.set_bias_for_gate", "IRNNv2Layer.seq_lengths", "IRNNv2Layer.hidden_state", "IRNNv2Layer.cell_state", "IBuilderConfig.set_flag", "IBuilderConfig.get_flag", "IBuilderConfig.set_memory_pool_limit", "IBuilderConfig.max_workspace_size", "IBuilderConfig.int8_calibrator", "IBuilderConfig.add_optimization_profile", "IBuilderConfig.progress_monitor", "IBuilderConfig.profiling_verbosity", "IBuilderConfig.set_timing_cache", "IBuilderConfig.builder_optimization_level", "IBuilderConfig.set_calibration_profile", "IOptimizationProfile.set_shape", "IInt8EntropyCalibrator2.__init__", "IInt8EntropyCalibrator2.get_batch", "IInt8EntropyCalibrator2.get_batch_size", "IInt8EntropyCalibrator2.read_calibration_cache", "IInt8EntropyCalibrator2.write_calibration_cache", "OnnxParser.__init__", "OnnxParser.parse", "OnnxParser.parse_from_file", "OnnxParser.num_errors", "OnnxParser.get_error", "OnnxParser.supports_model", "Runtime.__init__", "Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context", "ICudaEngine.num_bindings", "ICudaEngine.__getitem__", "ICudaEngine.get_binding_shape", "ICudaEngine.get_binding_dtype", "ICudaEngine.binding_is_input", "ICudaEngine.max_batch_size", "ICudaEngine.num_io_tensors", "ICudaEngine.get_tensor_name", "ICudaEngine.get_tensor_mode", "ICudaEngine.get_tensor_shape", "ICudaEngine.get_tensor_dtype", "ICudaEngine.get_tensor_profile_shape", "ICudaEngine.serialize", "ICudaEngine.create_engine_inspector", "ICudaEngine.has_implicit_batch_dimension", "IExecutionContext.execute", "IExecutionContext.execute_v2", "IExecutionContext.execute_async", "IExecutionContext.execute_async_v2", "IExecutionContext.execute_async_v3", "IExecutionContext.set_tensor_address", "IExecutionContext.set_input_shape", "IExecutionContext.set_binding_shape", "IExecutionContext.get_tensor_shape", "IExecutionContext.profiler", "IExecutionContext.infer_shapes", "IExecutionContext.active_optimization_profile", "IExecutionContext.set_optimization_profile_async", "IExecutionContext.set_output_allocator", "Refitter.__init__", "Refitter.set_weights", "Refitter.set_named_weights", "Refitter.get_missing", "Refitter.get_all", "Refitter.refit_cuda_engine", "OnnxParserRefitter.refit_from_file", "EngineInspector.get_engine_information", "IProfiler.report_layer_time", "IHostMemory.nbytes", "IPluginRegistry.register_creator", "IPluginV3.__init__", "IPluginV3OneCore.__init__", "IPluginV3OneBuild.__init__", "IPluginV3OneRuntime.__init__", "PluginField.__init__", "PluginFieldCollection_.__getitem__", "IPluginCreatorV3One.__init__", "module.get_plugin_registry", "module.init_libnvinfer_plugins", "Weights.__init__", "Dims.__init__", "IErrorRecorder.__init__", "IProgressMonitor.__init__", "IStreamReaderV2.__init__", "IStreamWriter.__init__"]


def members() -> Iterator[tuple[str, str, str]]:
    """(class, member, versions)."""
    owner = ""
    for line in MEMBERS.read_text().splitlines():
        if line.startswith("  "):
            name, versions = line.split(None, 1)
            yield owner, name, versions
        elif not line.startswith("#"):
            owner = line


def instance_names(owner: type) -> set[str]:
    """Attributes that a class sets on its objects."""
    found: set[str] = set()
    for cls in owner.__mro__[:-1]:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError, SyntaxError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                found.add(node.attr)
    return found


def fate(owner: str, name: str) -> str:
    if owner == "module":
        return "works" if hasattr(trt, name) else "refused"
    found: Any = getattr(trt, owner, None)
    if found is None:
        return "refused"
    if not (hasattr(found, name) or (isinstance(found, type) and name in instance_names(found))):
        return "refused"
    return "no effect" if name in NO_EFFECT.get(owner, "").split() else "works"


def table() -> str:
    fates: dict[str, list[tuple[str, str, str]]] = {}
    for owner, name, versions in members():
        fates.setdefault(owner, []).append((name, versions, fate(owner, name)))
    counts = Counter(f for rows in fates.values() for _, _, f in rows)
    touched = [fate(*member.split(".")) for member in TOUCHED]
    works = sum(f != "refused" for f in touched)
    lines = [
        "# TensorRT coverage",
        "",
        "What `strop.compat.tensorrt` does with every class and member of TensorRT 8.6 (8) and 11.1 (11). Generated by",
        "`pytest tests/compat/test_tensorrt_coverage.py --update-golden`.",
        "",
        f"All members: {counts['works']} work, {counts['no effect']} are accepted and have no effect, which the log notes where it matters, "
        f"{counts['refused']} are refused:",
        "an `add_*` raises an error that names it, a class or attribute that is not there an AttributeError.",
        "",
        f"Of the {len(touched)} members that the presentation's code and the samples of all versions touch, {works} are there "
        f"({100 * works / len(touched):.0f} %).",
        "",
        "| class | works | no effect | refused |",
        "|---|---|---|---|",
    ]
    for owner, rows in fates.items():
        cells = [", ".join(f"{name} ({versions.replace(' ', ', ')})" for name, versions, f in rows if f == wanted) for wanted in ("works", "no effect", "refused")]
        lines.append(f"| {owner} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_coverage_page_is_true(request: pytest.FixtureRequest) -> None:
    made = table()
    if request.config.getoption("--update-golden"):
        DOC.write_text(made)
    assert DOC.exists() and DOC.read_text() == made, "run with --update-golden"


def test_what_samples_touch_is_there() -> None:
    missing = [member for member in TOUCHED if fate(*member.split(".")) == "refused"]
    assert len(missing) <= 0.1 * len(TOUCHED), missing
