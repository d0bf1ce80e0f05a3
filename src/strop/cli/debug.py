"""``strop debug reduce|bisect MODEL``: the smallest part of a model that fails, and what makes it fail."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer

from strop.cli.debug_precision import command as precision_command
from strop.cli.output import pairs, show_json, warn
from strop.cli.source import SHAPE_HELP, check_output, parse_shapes, read_arrays, write_npz
from strop.engine.bisect import Guilt, bisect
from strop.engine.reduce import Reduced, reduce_model
from strop.engine.trial import Conditions, attempt, feed_of, of_error
from strop.errors import InputError, ModelError, OptionError, StropError
from strop.frontend.table import read

Array = np.ndarray[Any, Any]
app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
_AGAINST = ("oracle", "onnxruntime")
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX model.")]
Against = Annotated[str, typer.Option(metavar="NAME", help="What it is compared with: oracle (its numpy meaning) or onnxruntime.")]
Inputs = Annotated[list[str] | None, typer.Option("-i", "--input", help="name=file.npy or file.npz; random arrays otherwise.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the random arrays.")]
Level = Annotated[int, typer.Option(min=0, max=5, help="Of the build.")]
TargetName = Annotated[str, typer.Option(help="Machine to build for; this one must run its code.")]
Threads = Annotated[int, typer.Option(min=1, max=256, help="Of build and run.")]
ShapeTexts = Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)]
Tolerance = Annotated[float | None, typer.Option(min=0.0, help="As for strop diff.")]


@app.callback()
def command() -> None:
    """Finds the smallest failing part of a model, what makes it fail, and what costs accuracy."""


app.command("precision")(precision_command)


@app.command("reduce")
def reduce_command(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the small model goes; its inputs go beside it as .npz.")],
    check: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Exit code 0 says that {model} still fails; {inputs} is an .npz of arrays for it."),
    ] = None,
    against: Against = "oracle",
    input: Inputs = None,
    seed: Seed = 0,
    level: Level = 0,
    target: TargetName = "host",
    threads: Threads = 1,
    shape: ShapeTexts = None,
    tolerance: Tolerance = None,
) -> None:
    """Writes the smallest part of a model that still fails in the same way.

    It fails when it cannot be built or run, or departs from the oracle or ONNX Runtime; or when a command of your own says so.
    """
    check_output(output, "--output")
    conditions = _conditions(against, level, target, threads, tolerance, shape, seed)
    proto = _loaded(model)
    inputs = _feed(model, conditions, input)
    fails = _by_command(check) if check is not None else _by_trial(proto, inputs, conditions)
    if check is not None and not fails(proto, inputs):
        raise OptionError("the model does not fail", where=model.name, got="an exit code other than 0", expected="0 from --check for a failing model")
    found = reduce_model(proto, inputs, fails, _say)
    onnx.save(found.model, str(output))
    write_npz(output.with_suffix(".npz"), found.inputs)
    _tell(found, output, len(proto.graph.node))


@app.command("bisect")
def bisect_command(
    model: Model,
    against: Against = "oracle",
    input: Inputs = None,
    seed: Seed = 0,
    level: Level = 0,
    target: TargetName = "host",
    threads: Threads = 1,
    shape: ShapeTexts = None,
    tolerance: Tolerance = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Names the import, the patch of a pass or the kernel that makes a model wrong.

    Exit code 0: nothing is wrong; 1: something is.
    """
    conditions = _conditions(against, level, target, threads, tolerance, shape, seed)
    given = read_arrays(_names(model, conditions, input), input or [])
    guilt = bisect(model, given, conditions, _say)
    if json:
        show_json(guilt.to_json())
    else:
        _show(guilt)
    if guilt.stage != "none":
        warn(f"{model.name} is wrong: {guilt.stage} {guilt.name or guilt.failure}")
        raise typer.Exit(1)


def _say(line: str) -> None:
    """Progress, where somebody looks."""
    if sys.stderr.isatty():
        warn(line)


def _conditions(
    against: str, level: int, target: str, threads: int, tolerance: float | None, shape: list[str] | None, seed: int
) -> Conditions:  # fmt: skip
    if against not in _AGAINST:
        raise OptionError("unknown runtime", where="--against", got=against, expected=" or ".join(_AGAINST))
    return Conditions(against, level, target, threads, tolerance, parse_shapes(shape or ()), seed)


def _loaded(model: Path) -> onnx.ModelProto:
    if not model.is_file():
        raise OptionError("there is no such file", where=str(model), expected="an ONNX model")
    try:
        return onnx.load(str(model))
    except Exception as error:  # protobuf, or external data that is missing
        raise ModelError("the file is not an ONNX model", where=str(model), got=error) from error


def _names(model: Path, conditions: Conditions, texts: list[str] | None) -> list[str]:
    """Names of the inputs, asked only when a text does not say for which one its array is."""
    if not any("=" not in text and Path(text).suffix != ".npz" for text in texts or ()):
        return []
    return [v.name for v in read(model, conditions.shapes).inputs]


def _feed(model: Path, conditions: Conditions, texts: list[str] | None) -> dict[str, Array]:
    """Arrays for all inputs; for a model that cannot be read those that are given."""
    given = read_arrays(_names(model, conditions, texts), texts or [])
    try:
        return feed_of(read(model, conditions.shapes), given, conditions.seed)
    except InputError:
        raise
    except StropError:
        return given


def _by_trial(model: onnx.ModelProto, inputs: Mapping[str, Array], conditions: Conditions) -> Callable[[onnx.ModelProto, Mapping[str, Array]], bool]:
    failure = attempt(model, inputs, conditions)
    if failure is None:
        raise OptionError("the model does not fail", got=f"it builds, runs and agrees with {conditions.against}", hint="name a command with --check")
    _say(f"fails: {failure.text}")
    kind = failure.kind

    def fails(smaller: onnx.ModelProto, feed: Mapping[str, Array]) -> bool:
        try:
            found = attempt(smaller, feed, conditions)
        except StropError as error:
            found = of_error(error)
        return found is not None and found.kind == kind

    return fails


def _by_command(command: str) -> Callable[[onnx.ModelProto, Mapping[str, Array]], bool]:
    if "{model}" not in command:
        raise OptionError("the command does not say where the model goes", where="--check", got=command, expected="{model} in it")

    def fails(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            path, arrays = Path(folder) / "model.onnx", Path(folder) / "inputs.npz"
            onnx.save(model, str(path))
            write_npz(arrays, inputs)
            words = [w.replace("{model}", str(path)).replace("{inputs}", str(arrays)) for w in shlex.split(command)]
            try:
                return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
            except OSError as error:
                raise OptionError("the command cannot be started", where="--check", got=error.strerror or error) from error

    return fails


def _tell(found: Reduced, output: Path, before: int) -> None:
    graph = found.model.graph
    pairs([
        ("model", f"{output}, {len(graph.node)} of {before} nodes, after {found.tried} trials"),
        ("nodes", ", ".join(f"{n.name or n.output[0]} ({n.op_type})" for n in list(graph.node)[:12])),
        ("inputs", f"{output.with_suffix('.npz')}: " + ", ".join(f"{n} {list(a.shape)}" for n, a in found.inputs.items())),
    ])  # fmt: skip


def _show(guilt: Guilt) -> None:
    if guilt.stage == "none":
        print("nothing departs")
        return
    rows = [("stage", guilt.stage), ("shows as", guilt.failure), ("pass" if guilt.stage == "pass" else "kernel", guilt.name), ("rule", guilt.rule)]
    rows += [("patch", f"{guilt.patch}; STROP_PATCHES={guilt.patch - 1} leaves it out" if guilt.patch else "")]
    rows += [("step", guilt.step), ("nodes", ", ".join(guilt.nodes)), ("right instead", ", ".join(guilt.right))]
    rows += [("before" if guilt.stage == "pass" else "region", line) for line in guilt.before] + [("after", line) for line in guilt.after]
    pairs([(label, value) for label, value in rows if value])
