"""docs/tensorrt-coverage.md: for every member of TensorRT 8.6 and 11.1, whether it works, has no effect, or is refused."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import strop.compat.tensorrt as trt
from strop.compat.tensorrt.later import REFUSED
from tests.compat.test_tensorrt_deck import DECK
from tests.compat.touched import members, sources, touched

DOC = Path(__file__).parents[2] / "docs" / "tensorrt-coverage.md"
TOUCHED, SAMPLES = Path(__file__).with_name("tensorrt_touched.txt"), Path(__file__).with_name("samples")

#: Members that are accepted, kept where they are settings, and change nothing.
NO_EFFECT = {
    "IBuilderConfig": (
        "DLA_core algorithm_selector avg_timing_iterations can_run_on_DLA default_device_type engine_capability get_device_type "
        "get_memory_pool_limit get_preview_feature get_tactic_sources hardware_compatibility_level is_device_type_set "
        "l2_limit_for_tiling max_aux_streams max_num_tactics plugins_to_serialize profile_stream remote_auto_tuning_config "
        "reset_device_type runtime_platform set_device_type set_memory_pool_limit set_preview_feature set_tactic_sources "
        "tiling_optimization_level max_workspace_size min_timing_iterations quantization_flags set_quantization_flag "
        "clear_quantization_flag get_quantization_flag"
    ),
    "Builder": "gpu_allocator max_DLA_batch_size max_threads num_DLA_cores",
    "Runtime": "DLA_core gpu_allocator max_threads num_DLA_cores tempfile_control_flags temporary_directory engine_host_code_allowed",
    "IExecutionContext": (
        "debug_sync device_memory get_debug_listener get_debug_state get_input_consumed_event nvtx_verbosity persistent_cache_limit "
        "set_aux_streams set_debug_listener set_device_memory set_input_consumed_event temporary_allocator "
        "unfused_tensors_debug_state"
    ),
    "INetworkDefinition": "remove_tensor mark_debug unmark_debug is_debug_tensor mark_weights_refittable unmark_weights_refittable",
    "ICudaEngine": "weight_streaming_budget_v2 streamable_weights_size num_aux_streams tactic_sources hardware_compatibility_level",
    "Refitter": "max_threads weights_validation",
    "OnnxParser": "set_flag clear_flag get_flag flags",
    "ITensor": "location allowed_formats",
    "ILayer": "metadata",
}

@cache
def instance_names(owner: type) -> set[str]:
    """Attributes that a class sets on its objects."""
    found: set[str] = {f.name for f in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
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


#: Why members are refused, by class or class.member.
REASONS = {
    "Severity": "severities are members of an enum; loggers log",
    "IExecutionContext": "tensors within a kernel are not watched, and a network runs on one machine",
    "ICudaEngine": "an engine has no settings of its contexts and keeps no such figures",
    "ITimingCache": "the cache is text of one line per time, which serialize() gives",
    "TimingCacheKey": "the cache is text of one line per time, which ITimingCache.serialize() gives",
    "TimingCacheValue": "the cache is text of one line per time, which ITimingCache.serialize() gives",
    "IBuilderConfig": "there is one way to build",
    "ILayer": "a network runs on one machine",
    "IQuantizeLayer": "scales of blocks are not supported",
    "IDequantizeLayer": "scales of blocks are not supported",
    "ReduceOperation": "it belongs to collective operations, and a network runs on one machine",
    "IPluginV2": "plugins of fixed shapes: derive from IPluginV2DynamicExt or IPluginV3",
    "IPluginV2Ext": "plugins of fixed shapes: derive from IPluginV2DynamicExt or IPluginV3",
    "IAlgorithmIOInfo": "kernels are measured and chosen by Strop alone",
    "IAlgorithmVariant": "kernels are measured and chosen by Strop alone",
    "IAlgorithmContext": "kernels are measured and chosen by Strop alone",
    "IAlgorithm": "kernels are measured and chosen by Strop alone",
    "IAlgorithmSelector": "kernels are measured and chosen by Strop alone",
    "OnnxParser": "models are read whole, from bytes or a file",
    "OnnxParserRefitter": "models are read whole, from bytes or a file",
    "OnnxParserFlag": "plugins do not stand for ops, and there is no DLA",
    "IOutputAllocator": "interfaces have one version",
    "IExprBuilder": "plugins whose results have sizes that data decides are not supported",
    "IPluginResourceContext": "plugins own no resources of a GPU",
    "PluginCreatorVersion": "interfaces have one version",
    "InterfaceInfo": "interfaces have one version",
    "APILanguage": "plugins are written in Python",
    "IRuntimeConfig": "a context has no settings",
    "EngineStat": "an engine keeps no such figures",
    "IDynamicQuantizeLayer": REFUSED["add_dynamic_quantize"],
    "CollectiveOperation": REFUSED["add_dist_collective"],
    "IMoELayer": REFUSED["add_moe"],
    "MoEActType": REFUSED["add_moe"],
    "IAttention": "packed sequences and quantized scores are not supported",
    "IAttentionBoundaryLayer": "attention is one layer",
    "IKVCacheUpdateLayer": "packed sequences are not supported",
    "IPluginV3QuickCore": "plugins that are functions run by @impl",
    "IPluginV3QuickBuild": "plugins that are functions run by @impl",
    "IPluginV3QuickAOTBuild": "kernels for a GPU; @impl runs on the processor",
    "IPluginV3QuickRuntime": "plugins that are functions run by @impl",
    "IPluginCreatorV3Quick": "plugins that are functions run by @impl",
    "QuickPluginCreationRequest": "kernels for a GPU; @impl runs on the processor",
    "KernelLaunchParams": "kernels for a GPU; @impl runs on the processor",
    "PluginArgType": "kernels for a GPU; @impl runs on the processor",
    "PluginArgDataType": "kernels for a GPU; @impl runs on the processor",
    "ISymExpr": "kernels for a GPU; @impl runs on the processor",
    "ISymExprs": "kernels for a GPU; @impl runs on the processor",
    "INetworkDefinition.serialize": "strop.frontend.network.stored.save stores networks",
    "INetworkDefinition.mark_unfused_tensors_as_debug_tensors": "tensors within a kernel are not watched",
    "INetworkDefinition.unmark_unfused_tensors_as_debug_tensors": "tensors within a kernel are not watched",
    **{f"INetworkDefinition.{name}": reason for name, reason in REFUSED.items()},
}


def reason(owner: str, name: str) -> str | None:
    return REASONS.get(f"{owner}.{name}") or REASONS.get(owner)


def share(found: list[str]) -> str:
    fates = Counter(fate(*member.split(".", 1)) for member in found)
    part = 100 * fates["works"] / len(found)
    return f"{fates['works']} of {len(found)} work ({part:.1f} %), {fates['no effect']} have no effect, {fates['refused']} are refused"


def recorded() -> list[str]:
    return [line for line in TOUCHED.read_text().splitlines() if not line.startswith("#")]


def table() -> str:
    fates: dict[str, list[tuple[str, str, str]]] = {}
    for owner, name, versions in members():
        fates.setdefault(owner, []).append((name, versions, fate(owner, name)))
    counts = Counter(f for rows in fates.values() for _, _, f in rows)
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
        "What code touches, counted by name (`python -m tests.compat.touched FILES`; a name that several classes have counts for each of them):",
        "",
        f"- the presentation's code: {share(sorted(touched([DECK])))};",
        f"- the programs in `tests/compat/samples`, in the style of NVIDIA's samples of all versions: {share(sorted(touched(sources([str(SAMPLES)]))))};",
        f"- NVIDIA's own Python samples of versions 7 to 11 (`tests/compat/tensorrt_touched.txt`): {share(recorded())}.",
        "",
        "| class | works | no effect | refused |",
        "|---|---|---|---|",
    ]
    for owner, rows in fates.items():
        cells = [", ".join(f"{name} ({versions.replace(' ', ', ')})" for name, versions, f in rows if f == wanted) for wanted in ("works", "no effect", "refused")]
        lines.append(f"| {owner} | {' | '.join(cells)} |")
    lines += ["", "## Why members are refused", "", "| members | reason |", "|---|---|"]
    refused: dict[tuple[str, str], list[str]] = {}
    for owner, rows in fates.items():
        for name, _, f in rows:
            if f == "refused":
                refused.setdefault((owner, reason(owner, name) or "?"), []).append(name)
    lines += [f"| {owner}: {', '.join(names)} | {why} |" for (owner, why), names in refused.items()]
    return "\n".join(lines) + "\n"


def test_coverage_page_is_true(request: pytest.FixtureRequest) -> None:
    made = table()
    if request.config.getoption("--update-golden"):
        DOC.write_text(made)
    assert DOC.exists() and DOC.read_text() == made, "run with --update-golden"


def test_every_refusal_has_a_reason() -> None:
    assert not [f"{owner}.{name}" for owner, name, _ in members() if fate(owner, name) == "refused" and reason(owner, name) is None]


@pytest.mark.parametrize("found", [touched([DECK]), touched(sources([str(SAMPLES)])), recorded()], ids=["deck", "samples", "recorded"])
def test_what_code_touches_works(found: list[str]) -> None:
    known = {f"{owner}.{name}" for owner, name, _ in members()}
    assert not [member for member in found if member not in known]
    missing = [member for member in found if fate(*member.split(".", 1)) != "works"]
    assert len(found) > 20 and len(missing) <= 0.1 * len(found), missing


def test_the_tool_finds_members() -> None:
    found = touched(["with trt.Builder(log) as b:\n    b.create_network()\nlog = trt.Logger(trt.Logger.WARNING)\nx.undo()"])
    assert {"Builder.__init__", "Builder.create_network", "Logger.__init__"} <= found and not any("undo" in m for m in found)
