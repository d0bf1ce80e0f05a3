"""Sentences out of what the search of ``model.translator`` gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.translation.model import EOS


def sentences(words: NDArray[np.int32], parents: NDArray[np.int32]) -> list[list[list[int]]]:
    """The words of every hypothesis, best first, without EOS: [batch][beam][..].

    Args:
        words, parents: [steps, batch, beam]; steps after the end of the search are zeros.
    """
    steps, batch, beam = words.shape
    done = (words == 0).all(axis=(1, 2)) & (parents == 0).all(axis=(1, 2))
    last = steps if not done.any() else int(done.argmax())
    found = []
    for n in range(batch):
        found.append([_traced(words[:last, n], parents[:last, n], k) for k in range(beam)])
    return found


def _traced(words: NDArray[np.int32], parents: NDArray[np.int32], k: int) -> list[int]:
    """One hypothesis from its end to its beginning."""
    found: list[int] = []
    for step in range(len(words) - 1, -1, -1):
        found.append(int(words[step, k]))
        k = int(parents[step, k])
    found.reverse()
    return found[: found.index(EOS)] if EOS in found else found
