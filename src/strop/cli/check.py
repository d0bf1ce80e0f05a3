"""``strop check MODEL``: what a build would make of every node, before any build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import micros, number, pairs, show_json, size, table, warn
from strop.cli.source import SHAPE_HELP, SIGNATURE_HELP, parse_shapes
from strop.engine.check import FATES, CheckReport, NodeFate, check
from strop.errors import OptionError

#: Exit codes: 1 as for every error; 3 and not 2, which a wrong command line has.
UNSUPPORTED, NAIVE = 1, 3
#: Orders of the nodes, each with the largest first; ``model`` is the order of execution.
_KEYS: dict[str, Callable[[NodeFate], float]] = {
    "model": lambda n: 0,
    "time": lambda n: -n.figures.estimated_ns,
    "flops": lambda n: -n.figures.flops,
    "bytes": lambda n: -n.figures.bytes,
    "weights": lambda n: -n.figures.weights,
    "fate": lambda n: -FATES.index(n.fate),
}
_ORDERS = ", ".join(_KEYS)


def command(
    model: Annotated[Path, typer.Argument(help="ONNX, .pt2, .tflite, .keras or .h5 file, or a SavedModel's folder.")],
    target: Annotated[str, typer.Option(help="Machine the code would be for.")] = "host",
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
    sort: Annotated[str, typer.Option(help=f"Order of the nodes: {_ORDERS}.")] = "model",
    only: Annotated[list[str] | None, typer.Option(help=f"Show only nodes of a fate: {', '.join(FATES)}. Repeatable.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also say why each kernel does not take a naive node.")] = False,
    allow_naive: Annotated[bool, typer.Option("--allow-naive", help="Do not fail for steps without a fast kernel.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, always of all nodes in the order of execution.")] = False,
) -> None:
    """Tells what a build would make of every node of a model.

    That is: folded, view, fused (into another node's step), kernel, custom, copy, naive, processor (beside a GPU), unsupported, or unknown because of an
    unsupported node before it; with estimated operations, bytes, memory and time on one core. Nothing is compiled.

    Exit code 0: all nodes run well; 1: a node is not supported; 3: a node would run naively; 2: the command line is wrong.
    """
    if sort not in _KEYS:
        raise OptionError("unknown order", where="--sort", got=sort, expected=_ORDERS)
    wrong = [fate for fate in only or () if fate not in FATES]
    if wrong:
        raise OptionError("unknown fate", where="--only", got=wrong[0], expected=", ".join(FATES))
    report = check(model, target=target, shapes=parse_shapes(shape or ()), signature=signature)
    if json:
        show_json(report.to_json())
    else:
        _show(report, sort, tuple(only or FATES), verbose)
    unsupported, naive = len(report.of("unsupported")), len(report.of("naive"))
    if unsupported:
        warn(f"{unsupported} of {len(report.nodes)} nodes not supported")
        raise typer.Exit(UNSUPPORTED)
    if naive and not allow_naive:
        warn(f"{naive} of {len(report.nodes)} nodes would run naively, right but slow; --allow-naive accepts that")
        raise typer.Exit(NAIVE)


def _show(report: CheckReport, sort: str, fates: Sequence[str], verbose: bool) -> None:
    nodes = sorted((n for n in report.nodes if n.fate in fates), key=_KEYS[sort])
    figures = ("flops", "bytes", "weights", "results", "workspace", "est. us", "share")
    table(("node", "op", "fate", *figures, "how"), (_row(n, verbose) for n in nodes), right=figures)
    pairs(_foot(report))
    total = ", ".join(f"{count} {fate}" for fate, count in report.counts.items())
    print(f"{report.model} for {report.target}: {len(report.nodes)} nodes: {total}")


def _row(node: NodeFate, verbose: bool) -> list[object]:
    f = node.figures
    bytes_ = [size(count) if count else "" for count in (f.bytes, f.weights, f.results, f.workspace)]
    time = [micros(f.estimated_ns), f"{100 * f.share:.1f} %"] if f.estimated_ns else ["", ""]
    return [node.name, node.op, node.fate, number(f.flops) if f.flops else "", *bytes_, *time, _how(node, verbose)]


def _how(node: NodeFate, verbose: bool) -> str:
    parts = [node.kernel, f"into {node.step}" * bool(node.step), node.reason, f"try: {node.hint}" * bool(node.hint)]
    if verbose:
        parts += [f"{kernel}: {reason}" for kernel, reason in node.refusals.items()]
    return "; ".join(part for part in parts if part)


def _foot(report: CheckReport) -> list[tuple[str, object]]:
    t = report.totals
    copies = ", ".join(f"{count} {reason}" for reason, count in t.copies.items()) or "none"
    rows: list[tuple[str, object]] = [("inputs", "; ".join(report.inputs))]
    if report.sizes:
        rows.append(("sizes", ", ".join(f"{name} = {value}" for name, value in report.sizes.items())))
    if t.steps:
        rows += [
            ("steps", f"{t.steps}; copies: {copies}"),
            ("work", f"{number(t.flops)}flop, {size(t.bytes)} read and written, about {t.estimated_ns / 1e6:.3f} ms on one core"),
            ("memory", f"weights {size(t.weights)}, arena {size(t.arena)} (at least {size(t.live_peak)} alive at once), "
                       f"workspace {size(t.workspace)} per thread"),
        ]  # fmt: skip
    return rows
