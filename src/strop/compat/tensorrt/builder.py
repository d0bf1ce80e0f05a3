"""Builder: networks to engines."""

from __future__ import annotations

from typing import Any

from strop.compat import level
from strop.compat.tensorrt import plan as plans
from strop.compat.tensorrt.basics import FAILURES, IHostMemory, ILogger, Managed, failed, note
from strop.compat.tensorrt.calibration import ranges_of
from strop.compat.tensorrt.config import IBuilderConfig, IOptimizationProfile
from strop.compat.tensorrt.enums import (
    BuilderFlag,
    DataType,
    NetworkDefinitionCreationFlag,
    Severity,
)
from strop.compat.tensorrt.network import INetworkDefinition
from strop.compat.tensorrt.plugin import saved
from strop.compat.tensorrt.plugin_types import IPluginV2, IPluginV3, get_plugin_registry
from strop.compat.tensorrt.progress import Cancelled, Phases
from strop.compat.tensorrt.runtime import ICudaEngine
from strop.engine.build import build
from strop.engine.engine import Engine
from strop.frontend.network import CustomNode
from strop.ir.graph import Graph
from strop.ops.data import Identity
from strop.ops.elementwise import Cast
from strop.ops.quantize import Dequantize, Quantize
from strop.quantize.table import of as table_of

#: Flags that change what is built; others are accepted and noted.
_KNOWN = {BuilderFlag.TF32, BuilderFlag.REFIT, BuilderFlag.FP16, BuilderFlag.BF16, BuilderFlag.INT8}


class Builder(Managed):
    """Makes networks and engines of them."""

    def __init__(self, logger: ILogger) -> None:
        if not hasattr(logger, "log"):
            raise TypeError(f"the logger is a {type(logger).__name__}, not an ILogger")
        self.logger = logger
        self.error_recorder: Any = None
        self.gpu_allocator: Any = None
        self.max_threads = 1
        self.reset()

    max_DLA_batch_size = 1
    num_DLA_cores = 0
    platform_has_tf32 = False
    platform_has_fast_fp16 = False
    platform_has_fast_int8 = True

    def reset(self) -> None:
        """Settings of versions before 8 as they were at first."""
        self.max_batch_size = 1
        self.max_workspace_size = 1 << 30
        self.fp16_mode = self.int8_mode = self.strict_type_constraints = self.refittable = self.debug_sync = False
        self.int8_calibrator: Any = None
        self.min_find_iterations = self.average_find_iterations = 1

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        """An empty network. Without EXPLICIT_BATCH the batch is implicit up to version 9 and explicit from 10 on; at the level
        ``auto`` the first layer decides: one that takes samples without a batch makes it implicit."""
        explicit = bool(int(flags) >> int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH) & 1)
        version = level.current()
        implicit = False if explicit or (version or 0) >= 10 else None if version is None else True
        network = INetworkDefinition(self.logger, int(flags), implicit)
        network.builder = self
        return network

    def create_builder_config(self) -> IBuilderConfig:
        """Settings."""
        return IBuilderConfig(self.logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        """Ranges of free axes."""
        return IOptimizationProfile()

    def get_plugin_registry(self) -> Any:
        """The registry of plugins."""
        return get_plugin_registry()

    # ---- building

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig, *kernel_text: Any) -> Any:
        """The bytes of an engine; None when the build failed, which the log explains."""
        engine = self._build(network, config)
        return None if engine is None else IHostMemory(engine.path.read_bytes())

    def build_serialized_network_to_stream(self, network: INetworkDefinition, config: IBuilderConfig, writer: Any) -> bool:
        """Writes the bytes of an engine to a stream."""
        data = self.build_serialized_network(network, config)
        return data is not None and writer.write(bytes(data)) == len(data)

    def build_engine(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        """An engine, or None."""
        return self.build_engine_with_config(network, config)

    def build_engine_with_config(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        """An engine, or None."""
        engine = self._build(network, config)
        return None if engine is None else ICudaEngine(engine, self.logger)

    def build_cuda_engine(self, network: INetworkDefinition) -> Any:
        """An engine of the builder's own settings (versions 5 to 7), or None."""
        config = self.create_builder_config()
        for flag, wanted in ((BuilderFlag.FP16, self.fp16_mode), (BuilderFlag.INT8, self.int8_mode), (BuilderFlag.REFIT, self.refittable)):
            if wanted:
                config.set_flag(flag)
        config.int8_calibrator = self.int8_calibrator
        return self.build_engine_with_config(network, config)

    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        """Whether the network could be built."""
        try:
            self._graph(network, config)
        except FAILURES as error:
            failed(self.logger, error)
            return False
        return True

    def _graph(self, network: INetworkDefinition, config: IBuilderConfig) -> Graph:
        ranges = config.profiles[0].shapes if config.profiles else {}
        if network.own.implicit_batch:
            ranges = {}
        graph = network.own.to_graph(ranges, batch=self.max_batch_size)
        _convert_outputs(graph, network)
        return graph

    def _build(self, network: INetworkDefinition, config: IBuilderConfig) -> Engine | None:
        for flag in BuilderFlag:
            if config.get_flag(flag) and flag not in _KNOWN:
                note(self.logger, f"BuilderFlag.{flag.name}")
        try:
            graph = self._graph(network, config)
            refit = config.get_flag(BuilderFlag.REFIT)
            kept = graph.clone() if refit else None
            plan = self._plan(network, config, graph)
            _decide_precision(plan, graph, network, config, self.logger)
            cache = config.get_timing_cache()
            cache.exchange()
            with Phases(config.progress_monitor) as progress:
                engine = build(graph, level=plan.level, progress=progress, **plan.precision_arguments())
            cache.exchange()
            return plans.attach(engine, plan, kept)
        except Cancelled:
            self.logger.log(Severity.WARNING, "the build was cancelled by the progress monitor")
        except FAILURES as error:
            failed(self.logger, error)
            if self.error_recorder is not None:
                self.error_recorder.report_error(2, str(error))
        return None

    def _plan(self, network: INetworkDefinition, config: IBuilderConfig, graph: Graph) -> plans.Plan:
        own = network.own
        return plans.Plan(
            name=own.name,
            implicit_batch=own.implicit_batch,
            max_batch=self.max_batch_size,
            inputs=[t.name for t in own.inputs],
            outputs=[t.name for t in own.outputs],
            profiles=[{k: [list(s) for s in v] for k, v in p.shapes.items()} for p in config.profiles],
            weights=_weights(network, graph),
            verbosity=int(config.profiling_verbosity),
            level=config.builder_optimization_level,
            refittable=config.get_flag(BuilderFlag.REFIT),
            layers=len(own.layers),
            plugins=[saved(plugin, layer.op) for layer in own.layers if isinstance(layer, CustomNode) and isinstance(plugin := network.plugins[layer.op.name], (IPluginV2, IPluginV3))],
        )


def _weights(network: INetworkDefinition, graph: Graph) -> dict[str, list[str]]:
    """Name of weights to layer, role and constant of the graph."""
    found: dict[str, list[str]] = {}
    roles = {"kernel": "KERNEL", "bias": "BIAS", "scale": "SCALE", "shift": "SHIFT", "constant": "CONSTANT"}
    for layer in network.own.layers:
        for role, theirs in roles.items():
            constant = f"{layer.name}.{role}"
            if constant in graph.values:
                attribute = "values" if role == "constant" else role
                name = network.weights_name(getattr(layer, attribute, None)) or constant
                found[name] = [layer.name, theirs, constant]
    for value in graph.constants():
        if not any(value.name == row[2] for row in found.values()):
            users = value.users
            found[value.name] = [users[0].source[0] if users and users[0].source else "", "ANY", value.name]
    return found


def _convert_outputs(graph: Graph, network: INetworkDefinition) -> None:
    """Casts outputs to the dtypes that were set."""
    for index, tensor in enumerate(network.own.outputs):
        wanted = network.output_types.get(tensor)
        value = graph.outputs[index]
        if wanted is not None and value.dtype is not wanted:
            graph.outputs[index] = graph.add(Cast(wanted), [value], name=f"{tensor.name}.cast").output
        elif value.producer is None:
            graph.outputs[index] = graph.add(Identity(), [value], name=f"{tensor.name}.copy").output


def _decide_precision(plan: plans.Plan, graph: Graph, network: INetworkDefinition, config: IBuilderConfig, logger: ILogger) -> None:
    """Notes in the plan what precision flags mean, which allow a precision and do not ask for it: layers that FP16 or BF16 makes no faster stay in
    FP32. INT8, where it is allowed, goes first; it takes its ranges from the calibrator, or from the ranges of the network's tensors, or from random
    inputs; a network that quantizes itself stays as it is."""
    plan.lifted = {layer.name: "fp32" for layer in network if layer.wanted_precision == DataType.FLOAT}
    plan.precision = "bf16" if config.get_flag(BuilderFlag.BF16) else "fp16" if config.get_flag(BuilderFlag.FP16) else "fp32"
    if not config.get_flag(BuilderFlag.INT8) or any(isinstance(node.op, (Quantize, Dequantize)) for node in graph.nodes):
        return
    own = {t.own.name: t.dynamic_range for t in network.known_tensors() if t.dynamic_range is not None}
    plan.precision = "int8"
    if config.int8_calibrator is not None:
        plan.ranges = ranges_of(config.int8_calibrator, graph).text()
    elif own:
        plan.ranges = table_of(own).text()
    else:
        logger.log(Severity.WARNING, "BuilderFlag.INT8 without a calibrator and without ranges: these come from random inputs, and accuracy is unknown")
