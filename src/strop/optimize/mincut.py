"""Minimum cut of a small directed graph (Dinic's algorithm, Soviet Math. Doklady 11, 1970)."""

from __future__ import annotations

from collections import deque

INFINITE = 1 << 100


class Network:
    """Nodes 0, 1, ... with capacities on edges; node 0 is the source, node 1 the sink."""

    def __init__(self) -> None:
        self.out: list[list[int]] = [[], []]  # edge numbers by node; edge e ^ 1 is its reverse
        self.to: list[int] = []
        self.room: list[int] = []

    def node(self) -> int:
        """Adds a node."""
        self.out.append([])
        return len(self.out) - 1

    def edge(self, start: int, end: int, capacity: int) -> None:
        """Adds an edge: cut when ``start`` is on the source's side and ``end`` on the sink's."""
        for a, b, room in ((start, end, capacity), (end, start, 0)):
            self.out[a].append(len(self.to))
            self.to.append(b)
            self.room.append(room)

    def cut(self) -> set[int]:
        """The nodes on the source's side of a minimum cut: those that must be there."""
        while True:
            level = self._levels()
            if level[1] < 0:
                return {node for node, depth in enumerate(level) if depth >= 0}
            place = [0] * len(self.out)
            while self._push(level, place):
                pass

    def _levels(self) -> list[int]:
        level = [-1] * len(self.out)
        level[0] = 0
        queue = deque([0])
        while queue:
            node = queue.popleft()
            for edge in self.out[node]:
                if self.room[edge] and level[self.to[edge]] < 0:
                    level[self.to[edge]] = level[node] + 1
                    queue.append(self.to[edge])
        return level

    def _push(self, level: list[int], place: list[int]) -> bool:
        """Finds one path to the sink along rising levels and fills it."""
        path: list[int] = []
        node = 0
        while node != 1:
            edges = self.out[node]
            while place[node] < len(edges):
                edge = edges[place[node]]
                if self.room[edge] and level[self.to[edge]] == level[node] + 1:
                    break
                place[node] += 1
            if place[node] < len(edges):
                path.append(edges[place[node]])
                node = self.to[path[-1]]
            elif path:
                edge = path.pop()
                node = self.to[edge ^ 1]
                place[node] += 1
            else:
                return False
        amount = min(self.room[edge] for edge in path)
        for edge in path:
            self.room[edge] -= amount
            self.room[edge ^ 1] += amount
        return True
