"""``strop trtexec``: TensorRT's trtexec, its options and the lines that people parse."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import typer

from strop.engine.bench import Latency, bench, time_calls
from strop.engine.build import build
from strop.engine.describe import describe
from strop.engine.engine import Engine, load
from strop.engine.layer_json import facts
from strop.engine.options import machine_of
from strop.errors import OptionError, StropError
from strop.tune.records import Records, path_of
from strop.version import __version__

#: Options are trtexec's own and are read by its rules, not by typer's.
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

#: Options of trtexec that have nothing to act on here: with a value, and without.
_NO_EFFECT_VALUES = ["memPoolSize", "workspace", "tacticSources", "previewFeatures", "hardwareCompatibilityLevel", "device", "useDLACore", "minTiming", "avgTiming", "maxAuxStreams", "maxTactics", "inputIOFormats", "outputIOFormats", "sleepTime", "idleTime", "streams", "infStreams", "precisionConstraints", "layerOutputTypes", "deviceMemory", "refittableWeights", "weightStreamingBudget", "persistentCacheRatio", "markDebug", "saveDebugTensors", "layerDeviceTypes", "profilingVerbosity", "tempdir", "tempfileControls", "runtimePlatform", "tilingOptimizationLevel", "l2LimitForTiling", "leanDLLPath", "allocationStrategy"]
_NO_EFFECT_FLAGS = ["explicitBatch", "noTF32", "sparsity", "allowGPUFallback", "directIO", "noBuilderCache", "useSpinWait", "useCudaGraph", "noDataTransfers", "useManagedMemory", "separateProfileRun", "versionCompatible", "stripWeights", "refit", "stronglyTyped", "threads", "timeDeserialize", "timeRefit", "dumpRefit", "errorOnTimingCacheMiss", "skipRefit", "safe", "consistency", "restricted", "buildDLAStandalone", "vc", "excludeLeanRuntime", "allowWeightStreaming", "monitorMemory", "cpuOnly", "noCompilationCache"]


def command(context: typer.Context) -> None:
    """Builds and times a network with the options of TensorRT's trtexec."""
    line = "strop trtexec " + " ".join(context.args)
    print(f"&&&& RUNNING TensorRT.trtexec [Strop v{__version__}] # {line}")
    try:
        _run(_parser().parse_args(context.args))
    except StropError as error:
        for text in str(error).splitlines():
            _say("E", text)
        print(f"&&&& FAILED TensorRT.trtexec [Strop v{__version__}] # {line}")
        raise typer.Exit(1) from error
    print(f"&&&& PASSED TensorRT.trtexec [Strop v{__version__}] # {line}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"the options do not fit: {message}", hint="strop trtexec --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("strop trtexec", description="Builds and times a network with the options of TensorRT's trtexec.", allow_abbrev=False)
    model = parser.add_argument_group("model")
    model.add_argument("--onnx", metavar="FILE", help="ONNX model to build")
    model.add_argument("--loadEngine", metavar="FILE", help="engine to run instead of building one")
    model.add_argument("--saveEngine", metavar="FILE", help="where the engine goes")
    for name, text in (("shapes", "shapes of inputs: x:1x3x224x224,y:8"), ("minShapes", "least"), ("optShapes", "best"), ("maxShapes", "largest")):
        model.add_argument(f"--{name}", metavar="SPEC", default="", help=text)
    model.add_argument("--batch", type=int, default=None, metavar="N", help="first size of every input, where it is free")
    build = parser.add_argument_group("build")
    for flag in ("fp16", "bf16", "int8", "best", "fp8"):
        build.add_argument(f"--{flag}", action="store_true", help=f"allow {flag}")
    build.add_argument("--calib", metavar="FILE", help="calibration cache, or range table, for INT8")
    build.add_argument("--layerPrecisions", metavar="SPEC", default="", help="precision of layers by pattern: conv1:fp32,*:int8")
    build.add_argument("--timingCacheFile", metavar="FILE", help="records of measured kernels: read before the build, written after it")
    build.add_argument("--builderOptimizationLevel", type=int, default=3, metavar="0..5", help="effort of choosing kernels")
    build.add_argument("--buildOnly", "--skipInference", dest="skip", action="store_true", help="do not run")
    run = parser.add_argument_group("run")
    run.add_argument("--iterations", type=int, default=10, metavar="N", help="least number of runs")
    run.add_argument("--duration", type=float, default=3.0, metavar="S", help="least time of runs in seconds")
    run.add_argument("--warmUp", type=float, default=200.0, metavar="MS", help="time before, not counted")
    run.add_argument("--avgRuns", type=int, default=10, metavar="N", help="runs per average in the trace")
    run.add_argument("--percentile", default="90,95,99", metavar="P,..", help="percentiles to print")
    run.add_argument("--loadInputs", metavar="SPEC", default="", help="values of inputs: x:file.bin,..")
    report = parser.add_argument_group("report")
    for flag in ("dumpProfile", "dumpLayerInfo", "dumpOutput", "verbose"):
        report.add_argument(f"--{flag}", action="store_true")
    for name in ("exportTimes", "exportProfile", "exportLayerInfo", "exportOutput"):
        report.add_argument(f"--{name}", metavar="FILE")
    ignored = parser.add_argument_group("accepted and without effect")
    for name in _NO_EFFECT_VALUES:
        ignored.add_argument(f"--{name}", metavar="..", help=argparse.SUPPRESS)
    for name in _NO_EFFECT_FLAGS:
        ignored.add_argument(f"--{name}", nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def _say(level: str, text: str) -> None:
    print(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [{level}] {text}")


# ---- the engine


def _run(options: argparse.Namespace) -> None:
    percentiles = _percentiles(options)
    _options(options)
    engine = _loaded(options) if options.loadEngine else _built(options)
    if options.dumpLayerInfo or options.exportLayerInfo:
        _layers(engine, options)
    if options.skip:
        _say("I", "Skipped inference phase since --skipInference is added.")
        return
    inputs = _inputs(engine, options)
    _measure(engine, inputs, options, percentiles)
    if options.dumpProfile or options.exportProfile:
        _profile(engine, inputs, options)
    if options.dumpOutput or options.exportOutput:
        _outputs(engine, inputs, options)


def _percentiles(options: argparse.Namespace) -> list[float]:
    try:
        found = [float(p) for p in options.percentile.split(",") if p]
    except ValueError:
        found = [-1.0]
    if any(not 0 <= p <= 100 for p in found):
        raise OptionError("percentiles do not fit", got=options.percentile, expected="numbers from 0 to 100, with commas")
    return found


def _options(options: argparse.Namespace) -> None:
    """What was asked for, in sections of lines as trtexec has them."""
    precision = "FP32" + "".join(f"+{flag.upper()}" for flag in ("fp16", "bf16", "int8", "fp8") if getattr(options, flag) or options.best)
    machine = machine_of("host", None)
    sections: dict[str, dict[str, object]] = {
        "Model Options": {"Format": "ONNX" if options.onnx else "*", "Model": options.onnx or "", "Output": ""},
        "Build Options": {
            "Precision": precision, "Calibration": options.calib or ("Dynamic" if options.int8 else ""), "Builder optimization level": options.builderOptimizationLevel,
            "Timing cache file": options.timingCacheFile or "", "Save engine": options.saveEngine or "", "Load engine": options.loadEngine or "",
        },
        "Inference Options": {
            "Batch": "Explicit" if options.batch is None else options.batch, "Input inference shapes": options.shapes or "model", "Iterations": options.iterations,
            "Duration": f"{options.duration:g}s (+ {options.warmUp:g}ms warm up)", "Averages": f"{options.avgRuns} inferences",
        },
        "Reporting Options": {"Verbose": "Enabled" if options.verbose else "Disabled", "Percentile": options.percentile, "Dump output": options.dumpOutput, "Profile": options.dumpProfile},
        "Device Information": {"Selected Device": machine.name, "Cores": machine.cores, "Strop version": __version__},
    }  # fmt: skip
    for title, rows in sections.items():
        _say("I", f"=== {title} ===")
        for name, value in rows.items():
            _say("I", f"{name}: {value}")


def _loaded(options: argparse.Namespace) -> Engine:
    started = time.perf_counter()
    engine = load(options.loadEngine)
    _say("I", f"Engine deserialized in {time.perf_counter() - started:.6g} sec.")
    return engine


def _built(options: argparse.Namespace) -> Engine:
    if not options.onnx:
        raise OptionError("no model", expected="--onnx=FILE or --loadEngine=FILE")
    started = time.perf_counter()
    with _timing_cache(options.timingCacheFile):
        engine = build(options.onnx, level=options.builderOptimizationLevel, shapes=_ranges(options), **_precision(options))
    _say("I", f"Engine built in {time.perf_counter() - started:.6g} sec.")
    for note in describe(engine).notes:
        _say("V" if options.verbose else "I", note)
    if options.saveEngine:
        engine.save(options.saveEngine)
        _say("I", f"Created engine with size: {Path(options.saveEngine).stat().st_size / 1048576:.6g} MiB")
    return engine


def _precision(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``build``: 16-bit floats are allowed and FP32 is used; integers are used when they are asked for, with ``--best`` where they are
    faster and accurate enough."""
    for flag in ("fp16", "bf16", "fp8"):
        if getattr(options, flag):
            _say("W", f"--{flag} allows a precision; FP32 is used")
    if not (options.int8 or options.best):
        return {}
    if not options.calib:
        _say("W", "Calibrator is not being used: ranges come from random inputs, and accuracy is unknown")
    lifted = {}
    for part in filter(None, options.layerPrecisions.split(",")):
        name, _, precision = part.rpartition(":")
        lifted[name.strip("'\"")] = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8"}.get(precision, precision)
    return {"precision": "int8" if options.int8 else "auto", "calibration": options.calib, "layer_precision": lifted or None}


@contextmanager
def _timing_cache(path: str | None) -> Iterator[None]:
    """Records of a file and of this machine are brought together before the block and after it."""
    own = path_of(machine_of("host", None))
    if path:
        Records.read(Path(path), lambda text: _say("W", text)).write(own)
    yield
    if path:
        try:
            Records.read(own, lambda text: _say("W", text)).write(Path(path))
        except OSError as error:
            raise OptionError("the timing cache cannot be written", where=path, got=error.strerror) from error
        _say("I", f"Saved timing cache to {path}")


def _shapes(spec: str) -> dict[str, tuple[int, ...]]:
    """``x:1x3x8,y:2`` by name."""
    found = {}
    for part in filter(None, spec.split(",")):
        name, _, sizes = part.strip().rpartition(":")
        name = name.strip("'\"")
        if not name or not re.fullmatch(r"\d+(x\d+)*", sizes):
            raise OptionError("a shape cannot be read", got=part, expected="name:1x3x224x224")
        found[name] = tuple(map(int, sizes.split("x")))
    return found


def _ranges(options: argparse.Namespace) -> dict[str, list[str | int]] | None:
    fixed, least, best, most = (_shapes(getattr(options, n)) for n in ("shapes", "minShapes", "optShapes", "maxShapes"))
    names = {**fixed, **least, **best, **most}
    found: dict[str, list[str | int]] = {}
    for name in names:
        opt = best.get(name) or fixed.get(name) or most.get(name) or least[name]
        low, high = least.get(name, opt), most.get(name, opt)
        if not len(low) == len(opt) == len(high):
            raise OptionError("shapes of an input differ in rank", where=name, got=(low, opt, high))
        found[name] = [o if a == b else f"{a}..{b}({o})" for a, o, b in zip(low, opt, high)]
    return found or None


def _inputs(engine: Engine, options: argparse.Namespace) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs of the shapes that are asked for, or those of files."""
    wanted = _shapes(options.shapes)
    rng = np.random.default_rng(0)
    found = engine.random_inputs()
    for tensor in engine.inputs:
        shape = wanted.get(tensor.name, tensor.shape)
        if options.batch is not None and tensor.name not in wanted and tensor.is_dynamic:
            shape = (options.batch, *shape[1:])
        if shape != tensor.shape:
            found[tensor.name] = rng.random(shape).astype(tensor.dtype.numpy)
    for part in filter(None, options.loadInputs.split(",")):
        name, _, path = part.partition(":")
        if name not in found:
            raise OptionError("no input has this name", got=name, expected=", ".join(found))
        try:
            found[name] = np.fromfile(path, found[name].dtype).reshape(found[name].shape)
        except (OSError, ValueError) as error:
            raise OptionError("an input cannot be read", where=path, got=error) from error
    return found


# ---- figures


def _measure(engine: Engine, inputs: dict[str, np.ndarray[Any, Any]], options: argparse.Namespace, percentiles: Sequence[float]) -> None:
    context = engine.context()
    _say("I", "Starting inference")
    time_calls(lambda: context.run(inputs), seconds=options.warmUp / 1e3)
    started = time.perf_counter()
    times = time_calls(lambda: context.run(inputs), seconds=options.duration, least=options.iterations)
    wall = time.perf_counter() - started
    _say("I", f"=== Trace details ===\n{_trace(times, options.avgRuns)}".rstrip())
    _say("I", "")
    _say("I", "=== Performance summary ===")
    _say("I", f"Throughput: {len(times) / wall:.6g} qps")
    compute = Latency.of(times)
    zero = Latency.of([0])
    for name, figures, numbers in (
        ("Latency", compute, times),
        ("Enqueue Time", compute, times),
        ("H2D Latency", zero, [0]),
        ("GPU Compute Time", compute, times),
        ("D2H Latency", zero, [0]),
    ):
        rest = "".join(f", percentile({p:g}%) = {np.percentile(numbers, p) / 1e6:.6g} ms" for p in percentiles)
        _say("I", f"{name}: min = {figures.min:.6g} ms, max = {figures.max:.6g} ms, mean = {figures.mean:.6g} ms, median = {figures.p50:.6g} ms{rest}")
    _say("I", f"Total Host Walltime: {wall:.6g} s")
    _say("I", f"Total GPU Compute Time: {sum(times) / 1e9:.6g} s")
    if options.exportTimes:
        rows = [{"latencyMs": t / 1e6, "computeMs": t / 1e6, "inMs": 0.0, "outMs": 0.0} for t in times]
        _write(options.exportTimes, json.dumps(rows))


def _trace(times: Sequence[int], size: int) -> str:
    lines = [f"Trace averages of {size} runs:"]
    for start in range(0, min(len(times), 100 * size) - size + 1, size):
        mean = sum(times[start : start + size]) / size / 1e6
        lines.append(f"Average on {size} runs - GPU latency: {mean:.6g} ms - Host latency: {mean:.6g} ms (enqueue {mean:.6g} ms)")
    return "\n".join(lines)


def _profile(engine: Engine, inputs: dict[str, np.ndarray[Any, Any]], options: argparse.Namespace) -> None:
    report = bench(engine, inputs, runs=max(options.iterations, 1), per_step=True)
    total = sum(s.nanoseconds for s in report.steps) or 1
    rows = [(s.nanoseconds / 1e6, 100 * s.nanoseconds / total, s.name) for s in report.steps]
    if options.dumpProfile:
        _say("I", f"=== Profile ({report.runs} iterations ) ===")
        print("   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer")
        for ms, share, name in rows:
            print(f"{ms * report.runs:11.2f}  {ms:11.4f}  {ms:11.4f}  {share:8.1f}   {name}")
        print(f"{total * report.runs / 1e6:11.2f}  {total / 1e6:11.4f}  {total / 1e6:11.4f}  {100.0:8.1f}   Total")
    if options.exportProfile:
        layers = [{"name": n, "timeMs": ms * report.runs, "averageMs": ms, "medianMs": ms, "percentage": share} for ms, share, n in rows]
        _write(options.exportProfile, json.dumps([{"count": report.runs}, *layers]))


def _layers(engine: Engine, options: argparse.Namespace) -> None:
    steps = describe(engine).steps
    if options.dumpLayerInfo:
        _say("I", "Layer Information:")
        print("Layers:", *(f"{s.name}: {s.kind}, {s.kernel}" for s in steps), "", "Bindings:", *(t.name for t in (*engine.inputs, *engine.outputs)), sep="\n")
    if options.exportLayerInfo:
        names = [t.name for t in (*engine.inputs, *engine.outputs)]
        _write(options.exportLayerInfo, json.dumps({"Layers": [facts(s) for s in steps], "Bindings": names, "I/O Tensors": names}))


def _outputs(engine: Engine, inputs: dict[str, np.ndarray[Any, Any]], options: argparse.Namespace) -> None:
    found = engine.run(inputs)
    if options.dumpOutput:
        for name, array in found.items():
            _say("I", f"{name}: ({'x'.join(map(str, array.shape))})\n{' '.join(f'{v:g}' for v in array.reshape(-1))}")
    if options.exportOutput:
        rows = [{"name": n, "dimensions": "x".join(map(str, a.shape)), "values": a.reshape(-1).tolist()} for n, a in found.items()]
        _write(options.exportOutput, json.dumps(rows))


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError("a file cannot be written", where=path, got=error.strerror) from error
