"""The tiled product on tensor cores that convolutions and matrix products share: its parameters, its loop, its estimate.

A program computes ``bm`` x ``bn`` results in f32 registers, or i32 for products of bytes, ``bk`` terms per round of a software-pipelined loop. Where there are too few tiles to
fill the GPU, ``split`` programs share a tile: each writes its sums to the workspace, and the one that arrives last adds them up, in a fixed
order, and does the epilogue. Where tiles would leave the last wave of programs half empty, ``stream`` programs, as many as there is room for, do all
others one by one and then walk the rounds of those of the last wave in equal shares; tiles that several of them have a part in are added up
likewise (Osama et al., 2023, Stream-K).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product as combinations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.kernels.base import Region
from strop.kernels.triton.emit import VALUE, Block, Launch, Tile, Writer, ceil_div, power_of_two
from strop.kernels.triton.integers import sums_of
from strop.kernels.triton.parts import LAUNCH, dot, finish, preload, traffic
from strop.target.base import Target
from strop.target.cuda import capability

#: Rows of tiles whose programs run next to each other, so that they share their second factor in the cache.
_GROUP = 8
#: Programs that may share a tile, in equal parts.
_SPLITS = (2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32)
#: Bytes of shared memory that a program may take.
SHARED = {80: 163 * 1024, 87: 163 * 1024, 90: 227 * 1024}
#: Smallest tile side of tensor cores, and terms of one of their instructions on bytes.
_LEAST = 16
_BYTES = 32
#: Cycles per round in which nothing is multiplied.
_BARRIER = 60.0
#: Cycles that a load takes longer than the round it overlaps with, shared by the stages and the programs that are there.
_EXPOSED = 240.0
#: Rounds of bytes behind which nothing is waited for again: what the epilogue reads fills few registers.
_SHORT = 4
#: Registers of a thread where there is one round: it waits for memory, which other programs then use.
_REGISTERS = 128
#: Rounds of the shortest share of the last wave, waves beyond which that one counts little, and the share of places in them that are taken above which it
#: is as good as full.
_STREAMED, _WAVES, _FULL = 2, 6, 0.9
#: What estimates of shares are multiplied by, so that they are chosen where they were measured, or far ahead.
_CAUTION = 1.25
#: Share of the peak that tiles of this many results reach.
_EFFICIENCY = ((128 * 256, 0.75), (128 * 128, 0.65), (128 * 64, 0.5), (64 * 64, 0.35), (64 * 32, 0.2), (0, 0.1))


@dataclass(frozen=True)
class Params:
    """Rows and columns of a tile, terms per round, warps, stages of the pipeline, and programs per tile."""

    bm: int
    bn: int
    bk: int
    warps: int
    stages: int
    split: int = 1


@dataclass(frozen=True)
class StreamParams(Params):
    """Also the programs that share the rounds of the last wave."""

    stream: int = 0


@dataclass(frozen=True)
class Problem:
    """What is multiplied.

    Attributes:
        rows, columns: of the result.
        terms: of the sum, per tap where ``taps`` is above 1.
        taps: runs of terms that no round crosses.
        batch: products of their own.
        dtype: of the factors.
        halves: arrays of f16 whose sum the second factor is, which is f32 where there are two.
    """

    rows: int
    columns: int
    terms: int
    taps: int
    batch: int
    dtype: DType
    halves: int = 1

    def rounds(self, bk: int) -> int:
        """Rounds of the loop for a whole sum."""
        return self.taps * ceil_div(self.terms, bk)


def halves_of(x: DType, weights: DType) -> int:
    """Arrays in which known weights are stored that meet values of type ``x``."""
    return 2 if x is dt.f16 and weights is dt.f32 else 1


def halved(weights: Array, count: int) -> Array:
    """f32 weights as [count, ...] arrays of f16 that add up to them, the greater one first; others with an axis of 1."""
    if count == 1:
        return weights[None]
    first = weights.astype(np.float16)
    return np.stack([first, (weights - first.astype(np.float32)).astype(np.float16)])


def shared_bytes(problem: Problem, p: Params) -> int:
    """Shared memory of the pipeline."""
    return p.stages * (p.bm + problem.halves * p.bn) * p.bk * problem.dtype.size


def space(problem: Problem, target: Target) -> list[Params]:
    """Parameter sets worth trying."""
    wide, byte = problem.dtype.size == 4, problem.dtype.size == 1
    few, most = (_BYTES, 128) if byte else (16, 64)
    rows, columns = (max(_LEAST, power_of_two(n)) for n in (problem.rows, problem.columns))
    found = []
    for bm, bn, bk, stages in combinations((16, 32, 64, 128, 256), (16, 32, 64, 128, 256), (16, 32, 64, 128, 256)[byte : 4 + byte], (2, 3, 4, 5)):
        if bm > max(rows, 64) or bn > max(columns, _LEAST) or bm * bn > 128 * 256 or bm * bn < 512 or (bk > most and (wide or bm * bn > 128 * 64)):
            continue
        if bk > max(few, power_of_two(problem.terms)) or (bk == 16 and not wide and problem.terms > 16):
            continue
        for warps in (4, 8):
            if bm * bn // (32 * warps) > 128 + 64 * (warps == 4) or (warps == 8 and bm * bn < 64 * 128):
                continue
            plain = Params(bm, bn, bk, warps, stages)
            if shared_bytes(problem, plain) > SHARED[capability(target)] - 2048 or (wide and bm * bn > 128 * 128):
                continue
            found += [Params(bm, bn, bk, warps, stages, split) for split in _splits(problem, plain, target)]
            found += [StreamParams(bm, bn, bk, warps, stages, 1, stream) for stream in _streams(problem, plain, target)]
    return found


def _splits(problem: Problem, p: Params, target: Target) -> list[int]:
    tiles = ceil_div(problem.rows, p.bm) * ceil_div(problem.columns, p.bn) * problem.batch
    rounds = problem.rounds(p.bk)
    most = target.cores * (8 if problem.rows <= _LEAST else 2)  # few rows: the second factor is read once, by as many as can
    return [1, *(s for s in _SPLITS if rounds % s == 0 and tiles * s <= most and rounds // s >= 2)]


def _streams(problem: Problem, p: Params, target: Target) -> list[int]:
    """Programs that may share the last wave: as many as there is room for, where tiles leave that partly empty."""
    tiles, rounds = _tiles(problem, p), problem.rounds(p.bk)
    room = target.cores * _room(problem, p, target)
    waves, left = ceil_div(tiles, room), tiles % room
    if waves > _WAVES or tiles * 2 < room or tiles > _FULL * waves * room or left * rounds < _STREAMED * room:
        return []
    return [room]


def _tiles(problem: Problem, p: Params) -> int:
    return ceil_div(problem.rows, p.bm) * ceil_div(problem.columns, p.bn) * problem.batch


def _room(problem: Problem, p: Params, target: Target) -> int:
    """Programs that a multiprocessor has room for at once."""
    threads = 32 * p.warps
    registers = threads * min(255, p.bm * p.bn // threads + 56)
    return max(1, min(SHARED[capability(target)] // max(1, shared_bytes(problem, p)), 65536 // registers, 64 // p.warps, 8))


def cost(region: Region, problem: Problem, p: Params, target: Target) -> float:
    """Estimated seconds: waves of programs, each bound by multiplying, by loading or by latency."""
    size = problem.dtype.size
    tiles = p.stream if isinstance(p, StreamParams) else _tiles(problem, p) * p.split
    resident = min(_room(problem, p, target), ceil_div(tiles, target.cores))
    slow = size / 2 if size < 4 else 2 if "tf32" in target.extras else 6
    share = next(e for least, e in _EFFICIENCY if p.bm * p.bn >= least)
    if p.bm < 64:
        share *= 0.5
    multiply = problem.halves * p.bm * p.bn * p.bk * slow / (target.fma_lanes * share)
    load = (p.bm + problem.halves * p.bn) * p.bk * size / 36.0
    latency = 900.0 / (p.stages - 1) if p.stages > 1 else 900.0
    round_ = max(multiply * resident, load * resident, latency) + _BARRIER + _EXPOSED / (p.stages - 1) / resident
    rounds = ceil_div(problem.rounds(p.bk), p.split)
    after = p.bm * p.bn * region.out.dtype.size * (1 + len(region.extras)) / 24.0 * resident
    cycles = 1600.0 + rounds * round_ + after
    if p.split > 1:
        cycles += 2500.0 + p.split * p.bm * p.bn * 4 / 64.0
    if isinstance(p, StreamParams):
        return max(_stream_seconds(problem, p, round_, 1600.0 + after, target), traffic(region, target))
    waves = ceil_div(tiles, target.cores * resident)
    return max(waves * cycles / (target.ghz * 1e9) + LAUNCH, traffic(region, target))


def _stream_seconds(problem: Problem, p: StreamParams, round_: float, around: float, target: Target) -> float:
    """Estimated seconds of a stream, by cycles of a round and around a tile. Sums that are added up are written and read once."""
    whole, left = divmod(_tiles(problem, p), p.stream)
    rounds = problem.rounds(p.bk)
    share = ceil_div(left * rounds, p.stream)
    cycles = whole * (rounds * round_ + around) + share * round_ + _pieces(share, rounds) * around + 2500.0
    moved = 2 * (p.stream + left) * p.bm * p.bn * 4 / target.bandwidth
    return _CAUTION * (cycles / (target.ghz * 1e9) + moved) + LAUNCH


def write(
    w: Writer,
    region: Region,
    problem: Problem,
    p: Params,
    target: Target,
    blocks: tuple[Block, Block],
    batch: Block | None,
    start: Callable[[Tile], None],
    load: Callable[[Tile, str], tuple[str, ...]],
    correct: Callable[[Tile], str] | None = None,
    after: Callable[[], None] | None = None,
) -> tuple[Launch, int, int]:
    """Writes the kernel's body; returns the launch, bytes of workspace and locks.

    Args:
        blocks: rows and columns of the tile, named ``m`` and ``n``, over the result's logical axes.
        batch: index of the product, named ``b``, over further logical axes.
        start: writes what comes before the loop.
        load: writes what a round (whose number is the given text) needs; returns the text of the first factor, and of all halves of the second.
        correct: writes what is to be added to whole sums; returns its text.
        after: writes what follows the loop of each program that has a part in a tile; not for StreamParams.
    """
    if isinstance(p, StreamParams):
        assert after is None, "nothing follows the loop of a stream"
        return _write_stream(w, region, problem, p, target, blocks, batch, start, load, correct)
    tiles_m, tiles_n = ceil_div(problem.rows, p.bm), ceil_div(problem.columns, p.bn)
    w("program = tl.program_id(0)")
    _place(w, tiles_m, tiles_n, p)
    if batch is not None:
        w(f"{batch.name} = tl.program_id(2)")
    tile = Tile(w, (*blocks, *([batch] if batch is not None else [])))
    start(tile)
    rounds = problem.rounds(p.bk)
    share = ceil_div(rounds, p.split)
    sums = sums_of(problem.dtype)
    early = preload(region, tile) if rounds <= (1 if sums.is_float else _SHORT) else set()  # the one wait for memory is for all
    w(f"acc = tl.zeros(({p.bm}, {p.bn}), {VALUE[sums.name]})")
    if correct is not None and p.split == 1:
        w(f"acc += {correct(tile)}")
        correct = None
    loop = f"for step in range({rounds})"
    if p.split > 1:
        assert share * p.split == rounds, "programs share a sum evenly"
        w("part = tl.program_id(1)", f"first = part * {share}")
        loop = f"for turn in range({share})"

    def multiply(step: str) -> None:
        first, *second = load(tile, step)
        for half in second:
            w(f"acc = {dot(first, half, 'acc', problem.dtype, target)}")

    if rounds == 1:
        multiply("0")
    else:
        with w.block(loop):
            if p.split > 1:
                w("step = first + turn")
            multiply("step")
    if after is not None:
        after()
    workspace = locks = 0
    if p.split > 1:
        count = tiles_m * tiles_n * problem.batch
        workspace, locks = count * p.split * p.bm * p.bn * 4, count
        _gather(w, p, tiles_m * tiles_n, batch is not None, sums)
        with w.block(f"if arrived == {p.split - 1}"):
            w(f"acc = tl.zeros(({p.bm}, {p.bn}), {VALUE[sums.name]})")
            with w.block(f"for other in range({p.split})"):
                w(f'acc += tl.load(sums + other * {p.bm * p.bn}, cache_modifier=".cg")')
            w("tl.store(locks + number, 0)")
            _finish(region, tile, sums, correct, early)
    else:
        _finish(region, tile, sums, correct, early)
    grid = (tiles_m * tiles_n, p.split, problem.batch)
    registers = _REGISTERS if rounds == 1 and p.bm * p.bn == 16 * p.warps * _REGISTERS else 0
    return Launch(w.text(), grid, p.warps, p.stages, registers), workspace, locks


def _finish(region: Region, tile: Tile, sums: DType, correct: Callable[[Tile], str] | None, early: set[int]) -> None:
    if correct is not None:
        tile.w(f"acc += {correct(tile)}")
    finish(region, tile, "acc", region.out.dtype if sums.is_float else sums, known=early)


def _place(w: Writer, tiles_m: int, tiles_n: int, p: Params) -> None:
    """Which tile number ``program`` is: neighbours share rows, then columns."""
    if tiles_n == 1:
        row, column = "program", ""
    elif tiles_m == 1:
        row, column = "", "program"
    elif tiles_m <= _GROUP:
        w(f"row = program % {tiles_m}", f"column = program // {tiles_m}")
        row, column = "row", "column"
    else:
        w(f"group = program // {_GROUP * tiles_n}", f"place = program % {_GROUP * tiles_n}")
        w(f"height = tl.minimum({tiles_m} - group * {_GROUP}, {_GROUP})")
        w(f"row = group * {_GROUP} + place % height", "column = place // height")
        row, column = "row", "column"
    w(f"m = {f'{row} * {p.bm} + ' if row else ''}tl.arange(0, {p.bm})")
    w(f"n = {f'{column} * {p.bn} + ' if column else ''}tl.arange(0, {p.bn})")


def _gather(w: Writer, p: Params, tiles: int, batched: bool, sums: DType) -> None:
    """Stores a program's sums and counts it."""
    w(f"number = program + b * {tiles}" if batched else "number = program")
    work = _places_of_sums(w, p, sums)
    w(f"sums = {work} + number.to(tl.int64) * {p.split * p.bm * p.bn} + places")
    _arrive(w, f"sums + part * {p.bm * p.bn}")


def _places_of_sums(w: Writer, p: Params, sums: DType) -> str:
    """Writes the ``places`` of a tile's sums; returns the text of the workspace's address."""
    w(f"places = tl.arange(0, {p.bm})[:, None] * {p.bn} + tl.arange(0, {p.bn})[None, :]")
    return "work" if sums.is_float else f"work.to(tl.pointer_type({VALUE[sums.name]}))"


def _arrive(w: Writer, where: str) -> None:
    """Stores a program's sums, and counts it at the lock of its tile."""
    w(f"tl.store({where}, acc)", "tl.debug_barrier()")
    w('arrived = tl.atomic_add(locks + number, 1, sem="acq_rel", scope="gpu")')


def _pieces(share: int, rounds: int) -> int:
    """Tiles that ``share`` rounds in a row may have a part in."""
    return ceil_div(share - 1, rounds) + 1


def _write_stream(
    w: Writer,
    region: Region,
    problem: Problem,
    p: StreamParams,
    target: Target,
    blocks: tuple[Block, Block],
    batch: Block | None,
    start: Callable[[Tile], None],
    load: Callable[[Tile, str], tuple[str, ...]],
    correct: Callable[[Tile], str] | None,
) -> tuple[Launch, int, int]:
    """As ``write``: a program does its tiles, and then its share of rounds tile by tile.

    The workspace has two tiles of sums per program: what it adds to a tile that another one has begun, and its part of a tile that it does not end.
    """
    tiles_m, tiles_n = ceil_div(problem.rows, p.bm), ceil_div(problem.columns, p.bn)
    tiles, rounds, sums = tiles_m * tiles_n, problem.rounds(p.bk), sums_of(problem.dtype)
    whole, left = divmod(tiles * problem.batch, p.stream)
    total, size = left * rounds, p.bm * p.bn
    share, done = max(1, ceil_div(total, p.stream)), whole * p.stream
    w("worker = tl.program_id(0)", f"begin = worker * {share}", f"end = tl.minimum(begin + {share}, {total})")
    with w.block(f"for turn in range({whole + _pieces(share, rounds)})"):
        w(f"shared = begin // {rounds} + turn - {whole}")
        if whole:
            w(f"number = tl.where(turn < {whole}, worker + turn * {p.stream}, shared + {done})")
            w(f"first = tl.where(turn < {whole}, 0, tl.maximum(begin - shared * {rounds}, 0))")
            w(f"last = tl.where(turn < {whole}, {rounds}, tl.minimum(end - shared * {rounds}, {rounds}))")
        else:
            w("number = shared", f"first = tl.maximum(begin - shared * {rounds}, 0)", f"last = tl.minimum(end - shared * {rounds}, {rounds})")
        w(f"program = number % {tiles}")
        _place(w, tiles_m, tiles_n, p)
        if batch is not None:
            w(f"{batch.name} = number // {tiles}")
        tile = Tile(w, (*blocks, *([batch] if batch is not None else [])))
        start(tile)
        w(f"acc = tl.zeros(({p.bm}, {p.bn}), {VALUE[sums.name]})")
        with w.block("for step in range(first, last)"):
            first, *second = load(tile, "step")
            for half in second:
                w(f"acc = {dot(first, half, 'acc', problem.dtype, target)}")
        w("whole = first < last", f"parts = whole & ((first > 0) | (last < {rounds}))")
        w(f"lowest = shared * {rounds} // {share}", f"highest = (shared * {rounds} + {rounds - 1}) // {share}")
        work = _places_of_sums(w, p, sums)
        with w.block("if parts"):
            _arrive(w, f"{work} + (worker * 2 + (first == 0).to(tl.int32)) * {size} + places")
            w("whole = arrived == highest - lowest")
            with w.block("if whole"):
                w("tl.store(locks + number, 0)")
        w("added = parts & whole", "acc = tl.where(added, 0, acc)")  # not every compiler lets conditions have tiles as their results
        w("beyond = tl.where(added, highest + 1, lowest)")
        with w.block("for other in range(lowest, beyond)"):
            w(f'acc += tl.load({work} + (other * 2 + (other == lowest).to(tl.int32)) * {size} + places, cache_modifier=".cg")')
        with w.block("if whole"):
            _finish(region, tile, sums, correct, set())
    return Launch(w.text(), (p.stream, 1, 1), p.warps, p.stages), p.stream * 2 * size * 4, tiles * problem.batch


def checked(count: int, size: int) -> bool:
    """Whether tiles of a size reach behind the last of ``count`` places."""
    return count % size != 0
