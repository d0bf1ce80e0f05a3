"""The minimum cut agrees with trying every cut."""

from __future__ import annotations

import itertools
import random

from strop.optimize.mincut import INFINITE, Network


def test_against_every_cut() -> None:
    rng = random.Random(3)
    for _ in range(200):
        count = rng.randrange(1, 7)
        network = Network()
        nodes = [network.node() for _ in range(count)]
        edges = []
        for _ in range(rng.randrange(1, 16)):
            a, b = rng.sample([0, 1, *nodes], 2)
            room = INFINITE if rng.random() < 0.1 else rng.randrange(1, 9)
            if (a, b) != (0, 1) or room < INFINITE:
                edges.append((a, b, room))
                network.edge(a, b, room)

        def price(side: set[int], edges: list[tuple[int, int, int]] = edges) -> int:
            return sum(room for a, b, room in edges if a in side and b not in side)

        every = itertools.product([False, True], repeat=count)
        sides = [{0} | {n for n, on in zip(nodes, chosen, strict=True) if on} for chosen in every]
        found = network.cut()
        assert 0 in found and 1 not in found
        assert price(found) == min(price(side) for side in sides)
        assert all(found <= side for side in sides if price(side) == price(found))


def test_without_edges() -> None:
    assert Network().cut() == {0}
