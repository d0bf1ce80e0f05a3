"""``python -m tests.fuzz --minutes 30 [--seed N] [--ops Conv,pool] [--write-tests DIR]``: random graphs until the time is over.

Exit code 0 when nothing disagreed. Every finding is printed with its seed, reduced, and written as a test when a folder is given.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from tests.fuzz.generate import check_ops
from tests.fuzz.run import Fuzzer


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first batch; a fresh one by default")
    parser.add_argument("--ops", default="", help="names of ops, by commas; all by default")
    parser.add_argument("--batch", type=int, default=64, help="graphs per compilation")
    parser.add_argument("--write-tests", type=Path, default=None, help="folder for reduced cases")
    parser.add_argument("--no-reduce", action="store_true", help="print findings as they are")
    parser.add_argument("--no-kernels", action="store_true", help="look at passes and lowering only, at many times the rate")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 31)
    ops = tuple(filter(None, options.ops.lower().split(",")))
    try:
        check_ops(ops)
    except ValueError as error:
        parser.error(str(error))
    fuzzer = Fuzzer(seed, ops, options.batch, options.write_tests, not options.no_reduce, sys.stdout, not options.no_kernels)
    try:
        fuzzer.run(60.0 * options.minutes)
    except KeyboardInterrupt:
        print("interrupted")
    print(fuzzer.report())
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
