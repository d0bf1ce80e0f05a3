"""Peak memory of calibrating a network on many images, against that of building it and running one inference.

    python -m bench.calibration_memory MODEL.onnx --images 2000

Both run in processes of their own; images are made while they are needed, one after the other. The exit code is 1 when calibration needs more than
``MOST`` times the memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: Of calibration by one inference.
MOST = 1.3

_COMMON = """
import resource, sys
import numpy as np
import strop
model, images = sys.argv[1], int(sys.argv[2])
"""
_INFERENCE = """
engine = strop.build(model, level=0, threads=1)
engine.run(engine.random_inputs())
"""
_CALIBRATION = """
shape = strop.build(model, level=0, threads=1).inputs[0].shape
def batches():
    rng = np.random.default_rng(0)
    for _ in range(images):
        yield rng.random(shape, np.float32)
table = strop.calibrate(model, batches)
assert len(table) and {e.samples for e in table.entries.values()} == {images * shape[0]}
"""
_END = """
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(model: Path, calibrates: bool, images: int = 1) -> int:
    """Bytes of the peak resident memory of a process that builds and runs a model once, or that calibrates it.

    Raises:
        RuntimeError: the process failed.
    """
    program = _COMMON + (_CALIBRATION if calibrates else _INFERENCE) + _END
    done = subprocess.run([sys.executable, "-c", program, str(model), str(images)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return int(done.stdout.split()[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibration_memory", description="Memory of calibration.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=int, default=2000, help="to calibrate on (default 2000)")
    given = parser.parse_args(arguments)
    one, many = peak(given.model, False), peak(given.model, True, given.images)
    print(f"{given.model.stem}: {many / 1e6:.0f} MB to calibrate on {given.images} images, {one / 1e6:.0f} MB for one inference: {many / one:.2f} times")
    return int(many > MOST * one)


if __name__ == "__main__":
    sys.exit(main())
