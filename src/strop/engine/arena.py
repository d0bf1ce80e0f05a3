"""Offsets of intermediate buffers in one arena, by liveness: buffers whose lifetimes meet never overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strop.kernels.extent import highest
from strop.lower.pipeline import Lowered, Step
from strop.lower.placement import Buffer

#: Every buffer starts at a multiple of this many bytes, a cache line and the widest vector.
ALIGNMENT = 64


@dataclass(frozen=True)
class MemoryPlan:
    """The arena.

    Attributes:
        offsets: byte offset per arena buffer.
        size: bytes of the arena.
        live_peak: the largest sum of buffers alive at one step, the lower bound of ``size``.
        lives: (first step that writes, last step that reads or writes) per buffer.
    """

    offsets: dict[Buffer, int]
    size: int
    live_peak: int
    lives: dict[Buffer, tuple[int, int]]


def plan_memory(lowered: Lowered, kept: Sequence[tuple[Buffer, int]] = ()) -> MemoryPlan:
    """Places large buffers first, each at the lowest offset that is free for its whole life; buffers that a step
    overwrites in place share their operand's place.

    Args:
        lowered: the program.
        kept: (buffer, step) where somebody else needs a buffer during a step.
    """
    lives = _lives(lowered, kept)
    hosts = _in_place(lowered.steps, lives)
    merged: dict[Buffer, tuple[int, int]] = {}
    for buffer, (first, last) in lives.items():
        host = _root(buffer, hosts)
        old = merged.get(host, (first, last))
        merged[host] = (min(old[0], first), max(old[1], last))
    sizes = {b: _aligned(highest(b.size)) for b in merged}
    offsets: dict[Buffer, int] = {}
    for buffer in sorted(merged, key=lambda b: (-sizes[b], merged[b][0], b.index)):
        offsets[buffer] = _lowest_gap(buffer, merged, sizes, offsets)
    size = max((offsets[b] + sizes[b] for b in offsets), default=0)
    for buffer in lives:
        offsets[buffer] = offsets[_root(buffer, hosts)]
    return MemoryPlan(offsets, size, _live_peak(merged, sizes, len(lowered.steps)), lives)


def _aligned(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT


def _lives(lowered: Lowered, kept: Sequence[tuple[Buffer, int]]) -> dict[Buffer, tuple[int, int]]:
    """First and last step of every buffer. What is there before a round and used in it is there until the last round has ended,
    and what rounds leave behind from the first one on."""
    lives: dict[Buffer, tuple[int, int]] = {}
    for index, step in enumerate(lowered.steps):
        for place in (*step.inputs, *step.outputs):
            if place is not None and place.buffer.kind == "arena":
                lives[place.buffer] = (lives.get(place.buffer, (index, index))[0], index)
    for buffer, index in kept:
        if buffer.kind == "arena":
            first, last = lives.get(buffer, (index, index))
            lives[buffer] = (min(first, index), max(last, index))
    for jump in sorted((j for j in lowered.jumps if j.target <= j.after), key=lambda j: j.after - j.target):
        for buffer, (first, last) in lives.items():
            if first < jump.target <= last <= jump.after:
                lives[buffer] = (first, jump.after)
            elif jump.target <= first <= jump.after < last:
                lives[buffer] = (jump.target, last)
    return lives


def _in_place(steps: Sequence[Step], lives: dict[Buffer, tuple[int, int]]) -> dict[Buffer, Buffer]:
    """Result buffer -> operand buffer that it may overwrite: same size and view, and read for the last time right here by a
    kernel that reads each of its elements only before writing the same one."""
    hosts: dict[Buffer, Buffer] = {}
    for index, step in enumerate(steps):
        if len(step.outputs) != 1 or not step.chosen.kernel.in_place:
            continue
        out = step.outputs[0]
        if out.buffer.kind != "arena" or lives[out.buffer][0] != index or out.offset:
            continue
        for position, place in enumerate(step.inputs):
            if place is None or place.buffer.kind != "arena":
                continue
            others = [p for k, p in enumerate(step.inputs) if p is not None and p.buffer is place.buffer and k != position]
            fits = place.buffer.size == out.buffer.size and place.offset == 0 and place.view == out.view
            epilogue = step.region.anchors <= position < len(step.inputs) - step.region.prologues
            if fits and not others and epilogue and lives[place.buffer][1] == index:
                hosts[out.buffer] = place.buffer
                break
    return hosts


def _root(buffer: Buffer, hosts: dict[Buffer, Buffer]) -> Buffer:
    while buffer in hosts:
        buffer = hosts[buffer]
    return buffer


def _lowest_gap(
    buffer: Buffer, lives: dict[Buffer, tuple[int, int]], sizes: dict[Buffer, int], offsets: dict[Buffer, int]
) -> int:
    first, last = lives[buffer]
    taken = sorted(
        (offsets[b], offsets[b] + sizes[b]) for b in offsets if lives[b][0] <= last and first <= lives[b][1]
    )
    at = 0
    for start, end in taken:
        if start - at >= sizes[buffer]:
            break
        at = max(at, end)
    return at


def _live_peak(lives: dict[Buffer, tuple[int, int]], sizes: dict[Buffer, int], steps: int) -> int:
    change = [0] * (steps + 2)
    for buffer, (first, last) in lives.items():
        change[first] += sizes[buffer]
        change[last + 1] -= sizes[buffer]
    peak = now = 0
    for delta in change:
        now += delta
        peak = max(peak, now)
    return peak
