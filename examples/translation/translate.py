"""Builds the translator, translates random sentences, and says how fast.

    python -m examples.translation.translate [--batch 1,64] [--beam 1] [--steps 25] [--torch]

With ``--torch`` the same weights run in PyTorch too: words and scores are compared first, then both are timed in turns on the same threads.
Weights are random unless ``--weights`` names an .npz with arrays of PyTorch's names (see ``model.random_weights``); where words come from random weights, no
sentence means anything, but all of the arithmetic is the same.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

import strop
from examples.translation import search
from examples.translation.model import Sizes, Weights, random_weights, translator
from strop.cli.output import table as print_table

#: Largest difference of a score, relative, that counts as agreement.
TOLERANCE = 1e-4


def main() -> None:
    """Parses the command line and prints a table."""
    options = _options()
    sizes = Sizes(options.vocabulary, options.vocabulary, options.embedding, options.hidden, options.layers)
    weights = random_weights(sizes) if options.weights is None else dict(np.load(options.weights, allow_pickle=False))
    sizes = replace(sizes, source=len(weights["source.weight"]), target=len(weights["target.weight"]))
    rows = [_measure(options, weights, sizes, int(batch)) for batch in options.batch.split(",")]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    head = ["batch", "beam", "strop ms", "sentences/s"]
    if options.torch:
        head += ["torch ms", "ratio", "range", "score error"]
    print_table(head, [[str(cell) for cell in row.values()] for row in rows])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", default="1", help="sentences per call, separated by commas")
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--length", type=int, default=25, help="words of a source sentence at most")
    parser.add_argument("--steps", type=int, default=25, help="words of a translation at most")
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--embedding", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--weights", help=".npz")
    parser.add_argument("--level", type=int, default=0, help="effort of the build")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch", action="store_true", help="compare with PyTorch, which has to be installed")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _measure(options: argparse.Namespace, weights: Weights, sizes: Sizes, batch: int) -> dict[str, Any]:
    """One row."""
    net = translator(weights, sizes, batch=batch, length=options.length, steps=options.steps, beam=options.beam)
    engine = strop.build(net, level=options.level, threads=options.threads, precision=options.precision)
    rng = np.random.default_rng(batch)
    source = rng.integers(4, sizes.source, (batch, options.length)).astype(np.int32)
    lengths = rng.integers(options.length // 2, options.length + 1, batch).astype(np.int32)
    given = {"source": source, "lengths": lengths}

    def ours() -> Any:
        return engine.run(given)

    row: dict[str, Any] = {"batch": batch, "beam": options.beam}
    if not options.torch:
        best = median(_timed(ours) for _ in range(options.rounds + 1))
        return row | {"ms": round(1e3 * best, 3), "sentences": round(batch / best, 1)}
    theirs = _twin(weights, sizes, options, source, lengths)
    error = _compare(ours(), theirs())
    pairs = [(_timed(ours), _timed(theirs)) for _ in range(options.rounds)]
    best, other = (median(p[k] for p in pairs) for k in (0, 1))
    ratios = sorted(b / a for a, b in pairs)
    row |= {"ms": round(1e3 * best, 3), "sentences": round(batch / best, 1), "torch": round(1e3 * other, 3)}
    return row | {"ratio": round(median(ratios), 2), "range": f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]", "error": f"{error:.0e}"}


def _twin(weights: Weights, sizes: Sizes, options: argparse.Namespace, source: Any, lengths: Any) -> Callable[[], Any]:
    """A call of the same model in PyTorch."""
    import torch

    from examples.translation.twin import Translator

    torch.set_num_threads(options.threads)
    model = Translator(weights, sizes)
    x, n = torch.from_numpy(source).long(), torch.from_numpy(lengths).long()
    return lambda: model(x, n, options.steps, options.beam)


def _compare(ours: dict[str, Any], theirs: Any) -> float:
    """Largest relative difference of scores of hypotheses with the same words; ends the program when it is too large or words differ.

    Where two words are equally good but for rounding, a search may take the other one. So sentences may differ in one of
    two hundred.
    """
    words, parents, scores = (t.numpy() for t in theirs)
    own = search.sentences(ours["words"], ours["parents"])
    other = search.sentences(words, parents)
    same = [a[0] == b[0] for a, b in zip(own, other, strict=True)]
    if sum(same) < len(same) - len(same) // 200:
        raise SystemExit(f"translate.py: {len(same) - sum(same)} of {len(same)} sentences are not PyTorch's")
    error = float(np.max(np.abs(ours["scores"][same, 0] - scores[same, 0]) / np.abs(scores[same, 0])))
    if error > TOLERANCE:
        raise SystemExit(f"translate.py: a score differs from PyTorch's by {error:.1e}, more than {TOLERANCE}")
    return error


def _timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
