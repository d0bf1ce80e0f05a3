"""``strop check MODEL``: what a build would make of every node, before any build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import show_json, table, warn
from strop.cli.source import SHAPE_HELP, parse_shapes
from strop.engine.check import CheckReport, NodeFate, check

#: Exit codes: 1 as for every error; 3 and not 2, which a wrong command line has.
UNSUPPORTED, NAIVE = 1, 3


def command(
    model: Annotated[Path, typer.Argument(help="ONNX model or .pt2 file.")],
    target: Annotated[str, typer.Option(help="Machine the code would be for.")] = "host",
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    allow_naive: Annotated[bool, typer.Option("--allow-naive", help="Do not fail for steps without a fast kernel.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tells what a build would make of every node of a model.

    That is: folded, view, fused, kernel, copy, naive or unsupported.

    Exit code 0: all nodes run well; 1: a node is not supported; 3: a node would run naively.
    """
    report = check(model, target=target, shapes=parse_shapes(shape or ()))
    if json:
        show_json(report.to_json())
    else:
        _show(report)
    unsupported, naive = len(report.of("unsupported")), len(report.of("naive"))
    if unsupported:
        warn(f"{unsupported} of {len(report.nodes)} nodes not supported")
        raise typer.Exit(UNSUPPORTED)
    if naive and not allow_naive:
        warn(f"{naive} of {len(report.nodes)} nodes would run naively, right but slow; --allow-naive accepts that")
        raise typer.Exit(NAIVE)


def _show(report: CheckReport) -> None:
    table(("node", "op", "fate", "how"), ((n.name, n.op, n.fate, _how(n)) for n in report.nodes))
    total = ", ".join(f"{count} {fate}" for fate, count in report.counts.items())
    print(f"{report.model} for {report.target}: {len(report.nodes)} nodes: {total}")


def _how(node: NodeFate) -> str:
    parts = [node.kernel, f"with {node.step}" * bool(node.step), node.reason, f"try: {node.hint}" * bool(node.hint)]
    return "; ".join(part for part in parts if part)
