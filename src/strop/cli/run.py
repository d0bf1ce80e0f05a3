"""``strop run ENGINE|MODEL``: one inference, inputs and outputs in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from strop.cli.output import StageBar, show_json, table
from strop.cli.source import (
    SHAPE_HELP,
    SIGNATURE_HELP,
    Array,
    check_output,
    open_engine,
    read_inputs,
    write_npz,
)
from strop.engine.engine import Engine
from strop.errors import InputError


def command(
    source: Annotated[Path, typer.Argument(metavar="ENGINE|MODEL", help="Engine file, or ONNX model to build at level 0.")],
    input: Annotated[
        list[str] | None, typer.Option("-i", "--input", help="name=file.npy, or file.npz with arrays by name; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File that receives the outputs, .npz.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Random arrays for inputs that are not given.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --random.")] = 0,
    threads: Annotated[int | None, typer.Option(help="Threads; by default what the engine was built for.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Runs an engine or a model once."""
    if output is not None:
        check_output(output, "--output")
    with StageBar(quiet=json) as bar:
        engine = open_engine(source, threads=threads, shapes=shape or (), signature=signature, progress=bar)
    results = engine.run(_inputs(engine, input or [], random, seed))
    if output is not None:
        write_npz(output, results)
    found = {name: statistics(array) for name, array in results.items()}
    if json:
        show_json({"outputs": found, "written": None if output is None else str(output)})
        return
    columns = ("output", "dtype", "shape", "min", "max", "mean", "not finite", "largest at")
    table(columns, ([name, *_cells(row)] for name, row in found.items()))
    if output is not None:
        print(f"written to {output}")


def _inputs(engine: Engine, texts: list[str], random: bool, seed: int) -> dict[str, Array]:
    arrays = read_inputs(engine, texts)
    missing = [t for t in engine.inputs if t.name not in arrays]
    if missing and not random:
        raise InputError(
            f"input '{missing[0].name}' is missing",
            where=str(engine.path),
            got=", ".join(arrays) or "no inputs",
            expected="; ".join(map(str, engine.inputs)),
            hint=f"--input {missing[0].name}=FILE.npy, or --random",
        )
    drawn = engine.random_inputs(seed) if random else {}
    return {**{t.name: drawn[t.name] for t in missing}, **arrays}


def statistics(array: Array) -> dict[str, Any]:
    """What is worth knowing about an output without printing it; None where there is nothing to tell.

    ``argmax`` is the place of the largest element in the flattened array.
    """
    row: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    values = array.astype(np.float64).reshape(-1)
    finite = values[np.isfinite(values)]
    row["min"], row["max"], row["mean"] = (
        (float(finite.min()), float(finite.max()), float(finite.mean())) if finite.size else (None, None, None)
    )
    row["not_finite"] = int(values.size - finite.size)
    row["argmax"] = int(np.argmax(values)) if finite.size == values.size and values.size else None
    return row


def _cells(row: Mapping[str, Any]) -> list[str]:
    shape = "x".join(map(str, row["shape"])) or "scalar"
    numbers = ["" if row[k] is None else f"{row[k]:.6g}" for k in ("min", "max", "mean")]
    return [row["dtype"], shape, *numbers, str(row["not_finite"]), "" if row["argmax"] is None else str(row["argmax"])]
