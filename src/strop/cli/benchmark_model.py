"""``strop benchmark_model``: LiteRT's benchmark_model, its flags and the lines that people parse."""

from __future__ import annotations

import argparse
import csv
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from strop.cli.source import build, is_engine, stored_shapes
from strop.engine.bench import time_calls
from strop.engine.describe import describe
from strop.engine.engine import Engine, load
from strop.errors import OptionError, StropError
from strop.frontend.tflite_sheet import SHEET, Sheet, parse

#: Flags are LiteRT's own and are read by its rules, not by typer's.
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

Array = NDArray[Any]
#: Flags that have nothing to act on here, and flags that ask for what is not there, with the reason.
_NO_EFFECT = (
    "use_xnnpack xnnpack_force_fp16 use_nnapi use_gpu gpu_precision_loss_allowed use_hexagon use_coreml use_legacy_nnapi use_caching disable_delegate_clustering "
    "max_delegated_partitions min_nodes_per_partition release_dynamic_tensors optimize_memory_for_large_tensors max_profiling_buffer_entries "
    "allow_dynamic_profiling_buffer_increase allow_fp16 require_full_delegation memory_footprint_check_interval_ms "
    "tensor_name_display_length tensor_type_display_length alloc_type_display_length gpu_backend delegate_serialize_dir "
    "delegate_serialize_token enable_builtin_cast_constant_cache enable_platform_tracing xnnpack_weight_cache_file_path benchmark_name output_prefix "
    "op_profiling_output_mode"
)
_REFUSED = {
    "external_delegate_path": "delegates take over nothing: the engine does every op; leave it out",
    "external_delegate_options": "delegates take over nothing: the engine does every op; leave it out",
    "model_runtime_info_output_file": "strop inspect tells what the engine does",
    "print_postinvoke_state": "strop inspect tells what the engine does",
}
#: Most seconds of a measurement if nothing is said, as LiteRT has it.
_MAX_SECONDS = 150.0


def command(context: typer.Context) -> None:
    """Times a TensorFlow Lite model with the flags of LiteRT's benchmark_model."""
    options = _parser().parse_args(context.args)
    _say("STARTING!")
    try:
        _run(options)
    except StropError as error:
        for text in str(error).splitlines():
            print(f"ERROR: {text}")
        print("ERROR: Benchmarking failed.")
        raise typer.Exit(1) from error


def _say(text: str) -> None:
    print(f"INFO: {text}" if text else "")


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError("true or false")
    return text.lower() in ("true", "1")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "strop benchmark_model", description="Times a TensorFlow Lite model with the flags of LiteRT's benchmark_model.", allow_abbrev=False
    )

    def switch(name: str, text: str) -> None:
        parser.add_argument(f"--{name}", type=_flag, nargs="?", const=True, default=False, metavar="BOOL", help=text)

    parser.add_argument("--graph", metavar="FILE", help="model or engine to run")
    parser.add_argument("--level", type=int, default=3, metavar="0..5", help="effort of choosing kernels, of Strop's build")
    parser.add_argument("--signature_to_run_for", default="", metavar="KEY", help="signature to run")
    switch("list_signatures", "print the signatures and end")
    parser.add_argument("--num_threads", type=int, default=-1, metavar="N", help="of a run; -1: one")
    parser.add_argument("--num_runs", type=int, default=50, metavar="N", help="least number of runs")
    parser.add_argument("--min_secs", type=float, default=1.0, metavar="S", help="least time of runs")
    parser.add_argument("--max_secs", type=float, default=_MAX_SECONDS, metavar="S", help="most time of runs, between runs")
    parser.add_argument("--warmup_runs", type=int, default=1, metavar="N", help="least number of runs before, not counted")
    parser.add_argument("--warmup_min_secs", type=float, default=0.5, metavar="S", help="least time of runs before")
    parser.add_argument("--run_delay", type=float, default=-1.0, metavar="S", help="pause between runs")
    parser.add_argument("--run_frequency", type=float, default=-1.0, metavar="HZ", help="runs per second at most")
    parser.add_argument("--input_layer", default="", metavar="NAME,..", help="inputs whose shapes are given")
    parser.add_argument("--input_layer_shape", default="", metavar="1,224,224,3:..", help="their shapes, parted by colons")
    parser.add_argument("--input_layer_value_range", default="", metavar="NAME,LOW,HIGH:..", help="random values of inputs")
    parser.add_argument("--input_layer_value_files", default="", metavar="NAME:FILE,..", help="values of inputs, as they lie in memory")
    switch("enable_op_profiling", "time every step")
    parser.add_argument("--op_profiling_output_file", "--profiling_output_csv_file", dest="profile_file", metavar="FILE", help="write the times of steps as CSV")
    switch("print_preinvoke_state", "print tensors and operators")
    switch("report_peak_memory_footprint", "report the peak of resident memory")
    switch("dry_run", "build and do not run")
    switch("verbose", "print what is noted")
    parser.add_argument("--output_filepath", metavar="FILE", help="write the outputs, one behind the other, as they lie in memory")
    for name in _NO_EFFECT.split():
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    for name in _REFUSED:
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace) -> None:
    if not options.graph:
        raise OptionError("no model", expected="--graph=FILE")
    for name, reason in _REFUSED.items():
        if getattr(options, name):
            raise OptionError(f"--{name} is refused", got=getattr(options, name), hint=reason)
    for name in _NO_EFFECT.split():
        if getattr(options, name) not in (None, "false", "0"):
            _say(f"--{name} has no effect: the engine has kernels of its own")
    _say(f"Graph: [{options.graph}]")
    before = _resident()
    started = time.perf_counter()
    engine, sheet = _engine(options)
    context = engine.context(threads=max(options.num_threads, 1))
    inputs = _inputs(engine, options)
    seconds = time.perf_counter() - started
    if options.list_signatures:
        _signatures(sheet)
        return
    _say(f"Loaded model {options.graph}")
    _say(f"The input model file size (MB): {Path(options.graph).stat().st_size / 1e6:g}")
    _say(f"Initialized session in {seconds * 1e3:g}ms.")
    initialized = _resident()
    if options.print_preinvoke_state:
        _state(sheet)
    if options.dry_run:
        return
    _measure(context, inputs, seconds, options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _say(
        "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. "
        "Take the information at your discretion."
    )
    _say(f"Memory footprint delta from the start of the tool (MB): init={(initialized - before) / 1048576:g} overall={(_resident() - before) / 1048576:g}")
    if options.report_peak_memory_footprint:
        _say(f"Overall peak memory footprint (MB) via getrusage: {peak / 1048576:g}")
    if options.enable_op_profiling or options.profile_file:
        _profile(engine, context, inputs, options)
    if options.output_filepath:
        _write(options.output_filepath, b"".join(np.ascontiguousarray(array).tobytes() for array in context.run(inputs).values()))


# ---- the engine


def _engine(options: argparse.Namespace) -> tuple[Engine, Sheet]:
    path, threads = Path(options.graph), max(options.num_threads, 1)
    if is_engine(path):
        engine = load(path, threads=threads)
    else:
        key = options.signature_to_run_for or None
        shapes = {**stored_shapes(path, key), **(_shapes(options) or {})}
        engine = build(path, level=options.level, threads=threads, shapes=shapes, signature=key)
    if options.verbose:
        for note in engine.manifest.get("notes", []):
            _say(str(note))
    text = engine.attachment(SHEET)
    return engine, Sheet((), (), ()) if text is None else parse(text.decode(errors="replace"), str(path))


def _shapes(options: argparse.Namespace) -> dict[str, tuple[int, ...]] | None:
    names = [name for name in options.input_layer.split(",") if name]
    texts = [text for text in options.input_layer_shape.split(":") if text]
    if len(names) != len(texts):
        raise OptionError("inputs and shapes differ in number", where="--input_layer_shape", got=f"{len(texts)} shapes", expected=f"{len(names)}: {', '.join(names)}")
    try:
        return {name: tuple(int(d) for d in text.split(",")) for name, text in zip(names, texts, strict=True)} or None
    except ValueError as error:
        raise OptionError("a shape cannot be read", where="--input_layer_shape", got=options.input_layer_shape, expected="1,224,224,3:1,10") from error


def _inputs(engine: Engine, options: argparse.Namespace) -> dict[str, Array]:
    """Random inputs, as ranges or files say where they do."""
    found, wanted = engine.random_inputs(), _shapes(options) or {}
    rng = np.random.default_rng(0)

    def known(name: str) -> Array:
        if name not in found:
            raise OptionError("no input has this name", got=name, expected=", ".join(found))
        return found[name]

    for name, shape in wanted.items():
        if known(name).shape != shape:
            found[name] = rng.random(shape).astype(found[name].dtype)
    for part in filter(None, options.input_layer_value_range.split(":")):
        try:
            name, low, high = part.rsplit(",", 2)
            drawn = rng.uniform(float(low), float(high), known(name).shape)
        except ValueError as error:
            raise OptionError("a range of values cannot be read", where="--input_layer_value_range", got=part, expected="NAME,LOW,HIGH") from error
        found[name] = (drawn if found[name].dtype.kind == "f" else np.rint(drawn)).astype(found[name].dtype)
    for part in filter(None, options.input_layer_value_files.split(",")):
        name, _, path = part.rpartition(":")
        try:
            found[name] = np.fromfile(path, known(name).dtype).reshape(found[name].shape)
        except (OSError, ValueError) as error:
            raise OptionError("an input cannot be read", where=path, got=error) from error
    return found


def _signatures(sheet: Sheet) -> None:
    print("The Model contains the following signature keys.")
    for key, signature in sheet.signatures.items():
        print(f"{key}: inputs {', '.join(signature.inputs)}; outputs {', '.join(signature.outputs)}")


def _state(sheet: Sheet) -> None:
    print(f"Interpreter has {len(sheet.tensors)} tensors and {len(sheet.operators)} nodes")
    for number, tensor in enumerate(sheet.tensors):
        print(f"Tensor {number:3} {tensor.name:30} {tensor.type:10} {list(tensor.shape)}")
    for number, op in enumerate(sheet.operators):
        print(f"Node {number:3} {op.code}")


# ---- figures


def _measure(context: Any, inputs: dict[str, Array], seconds: float, options: argparse.Namespace) -> None:
    call = _paced(lambda: context.run(inputs), options)
    warm = _series(call, max(options.warmup_runs, 0), options.warmup_min_secs, options.max_secs)
    times = _series(call, max(options.num_runs, 1), options.min_secs, options.max_secs)
    mean = [np.mean(t) / 1e3 for t in (warm, times)]
    _say(f"Inference timings in us: Init: {round(seconds * 1e6)}, First inference: {round(warm[0] / 1e3)}, Warmup (avg): {mean[0]:g}, Inference (avg): {mean[1]:g}")


def _paced(call: Callable[[], object], options: argparse.Namespace) -> Callable[[], int]:
    """Nanoseconds of a call; waits before it where runs shall be apart."""
    last = [time.perf_counter()]

    def run() -> int:
        pause = max(options.run_delay, 1 / options.run_frequency - (time.perf_counter() - last[0]) if options.run_frequency > 0 else 0.0)
        if pause > 0:
            time.sleep(pause)
        last[0] = time.perf_counter()
        return time_calls(call, runs=1)[0]

    return run


def _series(call: Callable[[], int], runs: int, seconds: float, most: float) -> list[int]:
    _say(f"Running benchmark for at least {runs} iterations and at least {seconds:g} seconds but terminate if exceeding {most:g} seconds.")
    times: list[int] = []
    started = time.perf_counter()
    while not times or ((len(times) < runs or time.perf_counter() - started < seconds) and time.perf_counter() - started < most):
        times.append(call())
    us = np.asarray(times) / 1e3
    _say(f"count={len(us)} first={us[0]:.0f} curr={us[-1]:.0f} min={us.min():.0f} max={us.max():.0f} avg={us.mean():g} std={us.std():.0f} p5={np.percentile(us, 5):.0f} median={np.median(us):.0f} p95={np.percentile(us, 95):.0f}")
    _say("")
    return times


def _resident() -> int:
    """Bytes of resident memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _profile(engine: Engine, context: Any, inputs: dict[str, Array], options: argparse.Namespace) -> None:
    runs = max(options.num_runs, 1)
    times = context.profile(inputs, runs=runs)
    kinds = [step.kind for step in describe(engine).steps]
    total = sum(t.nanoseconds for t in times) or 1
    rows = [(kind, t.nanoseconds / 1e6, 100 * t.nanoseconds / total, t.name) for kind, t in zip(kinds, times, strict=True)]
    if options.profile_file:
        _write_csv(options.profile_file, rows, runs)
    if not options.enable_op_profiling:
        return
    _say("Operator-wise Profiling Info for Regular Benchmark Runs:")
    for title, chosen in (("Run Order", rows), ("Top by Computation Time", sorted(rows, key=lambda r: -r[1])[:10])):
        print(f"============================== {title} ==============================")
        print(f"\t{'[node type]':>24}\t{'[first]':>9}\t{'[avg ms]':>9}\t{'[%]':>8}\t{'[cdf%]':>8}\t{'[mem KB]':>10}\t{'[times called]':>9}\t[Name]")
        passed = 0.0
        for kind, ms, share, name in chosen:
            passed += share
            print(f"\t{kind:>24}\t{ms:9.3f}\t{ms:9.3f}\t{share:7.3f}%\t{passed:7.3f}%\t{0.0:10.3f}\t{1:9}\t[{name}]")
        print()
    print(f"Number of nodes executed: {len(rows)}")
    print("============================== Summary by node type ==============================")
    print(f"\t{'[Node type]':>24}\t{'[count]':>9}\t{'[avg ms]':>9}\t{'[avg %]':>8}\t{'[cdf %]':>8}\t{'[mem KB]':>10}\t{'[times called]':>9}")
    passed = 0.0
    for kind in sorted(set(kinds), key=lambda k: -sum(r[1] for r in rows if r[0] == k)):
        mine = [r for r in rows if r[0] == kind]
        share = sum(r[2] for r in mine)
        passed += share
        print(f"\t{kind:>24}\t{len(mine):9}\t{sum(r[1] for r in mine):9.3f}\t{share:7.3f}%\t{passed:7.3f}%\t{0.0:10.3f}\t{len(mine):9}")
    print(f"\nTimings (microseconds): count={runs} curr={total / 1e3:.0f} avg={total / 1e3:g}\n{len(rows)} nodes observed\n")


def _write_csv(path: str, rows: Sequence[tuple[str, float, float, str]], runs: int) -> None:
    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(("node type", "first", "avg_ms", "%", "times called", "name"))
            out.writerows((kind, ms, ms, share, runs, name) for kind, ms, share, name in rows)
    except OSError as error:
        raise OptionError("a file cannot be written", where=path, got=error.strerror) from error


def _write(path: str, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise OptionError("a file cannot be written", where=path, got=error.strerror) from error
