"""Prints what the cores can do at most, as ``strop.engine.roofline`` measures it.

    python bench/roofline.py [--target host] [--threads 1] [--precision fp32]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from strop.engine.roofline import measure
from strop.engine.versus import choose_cpus
from strop.errors import StropError
from strop.target.detect import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description="Measures the peak of multiply-adds and of copying.")
    parser.add_argument("--target", default="host")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    given = parser.parse_args(arguments)
    try:
        peaks = measure(parse(given.target), given.threads, choose_cpus(given.threads), given.precision)
    except StropError as error:
        print(f"roofline.py: {error}", file=sys.stderr)
        return 1
    print(f"{peaks.flops / 1e9:.1f} Gflop/s, {peaks.bandwidth / 1e9:.1f} GB/s read and written on {given.threads} threads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
