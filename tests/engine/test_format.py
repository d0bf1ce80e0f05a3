"""Engine files are written whole, read back exactly, and every byte of them is checked."""

from __future__ import annotations

import os
import stat
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from strop.engine.checksum import Hash64, hash64
from strop.engine.format import (
    ALIGNMENT,
    KERNEL_ABI,
    PLAN_ABI,
    EngineFile,
    Section,
    SectionKind,
    read_header,
    read_sections,
    write_engine,
)
from strop.errors import EngineFileError

WEIGHTS = np.arange(5000, dtype=np.float32)


def sections(weights: list[object] | None = None) -> list[Section]:
    return [
        Section(SectionKind.MANIFEST, "manifest", [b"{}"]),
        Section(SectionKind.PLAN, "plan", [b"a plan"]),
        Section(SectionKind.WEIGHTS, "weights", weights if weights is not None else [WEIGHTS]),  # type: ignore[arg-type]
        Section(SectionKind.KERNELS, "x86_64-v4", [b"code", bytearray(b" of "), memoryview(b"machines")]),
    ]


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "e.strop"
    write_engine(path, sections())
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes())):
        found = {entry.kind: (entry, data.tobytes()) for entry, data in read_sections(source)}
        assert [entry.kind for entry in read_header(source)] == [1, 3, 4, 5]
        assert found[SectionKind.MANIFEST][1] == b"{}"
        assert found[SectionKind.PLAN][1] == b"a plan"
        assert found[SectionKind.WEIGHTS][1] == WEIGHTS.tobytes()
        assert found[SectionKind.KERNELS][1] == b"code of machines"
        assert found[SectionKind.KERNELS][0].name == "x86_64-v4"
        assert found[SectionKind.KERNELS][0].flags == KERNEL_ABI
        assert found[SectionKind.PLAN][0].flags == PLAN_ABI


def test_sections_are_aligned_and_padded_with_zeros(tmp_path: Path) -> None:
    path = tmp_path / "e.strop"
    write_engine(path, sections())
    data = path.read_bytes()
    end = ALIGNMENT
    for entry in read_header(path):
        assert entry.offset == end and entry.offset % ALIGNMENT == 0
        assert not any(data[entry.offset + entry.size : entry.offset + entry.padded_size])
        end += entry.padded_size
    assert end == len(data)


def test_finds_sections_by_kind_and_name(tmp_path: Path) -> None:
    path = tmp_path / "e.strop"
    write_engine(path, [*sections(), Section(SectionKind.KERNELS, "aarch64", [b"other"])])
    file = EngineFile(path)
    found = file.find(SectionKind.KERNELS, "aarch64")
    assert found is not None and file.read(found).tobytes() == b"other"
    first = file.find(SectionKind.KERNELS)
    assert first is not None and first.name == "x86_64-v4"
    assert file.find(SectionKind.KERNELS, "riscv64") is None and file.find(SectionKind.GRAPH) is None
    assert file.text(SectionKind.MANIFEST) == "{}" and file.text(SectionKind.GRAPH) == ""


@pytest.mark.parametrize(
    "weights",
    [
        [],
        [b""],
        [np.empty((0, 3), np.float32)],
        [np.float64(3.5)],
        [np.arange(12, dtype=np.int16).reshape(3, 4).T],
        [np.arange(3000, dtype=np.uint8)[::2], b"x" * 4095, np.ones(3000), b"", b"yz"],
        [np.zeros(ALIGNMENT, np.uint8)],
    ],
)
def test_weights_come_in_any_pieces(tmp_path: Path, weights: list[object]) -> None:
    path = tmp_path / "e.strop"
    write_engine(path, sections([np.asarray(w) if isinstance(w, np.generic) else w for w in weights]))
    file = EngineFile(path)
    entry = file.find(SectionKind.WEIGHTS)
    expected = b"".join(w if isinstance(w, bytes) else np.asarray(w).tobytes() for w in weights)
    assert entry is not None and file.read(entry).tobytes() == expected


def test_the_same_sections_give_the_same_bytes(tmp_path: Path) -> None:
    write_engine(tmp_path / "a", sections())
    write_engine(tmp_path / "b", sections([WEIGHTS[:7], WEIGHTS[7:].tobytes()]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_large_weights_are_not_copied(tmp_path: Path) -> None:
    pieces: list[object] = [np.ones(4 << 20, np.float32) for _ in range(3)]
    pieces.insert(1, b"misaligns the rest")
    tracemalloc.start()
    write_engine(tmp_path / "e.strop", sections(pieces))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_failed_write_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "e.strop"
    path.write_bytes(b"the old engine")
    with pytest.raises(TypeError):
        write_engine(path, sections([WEIGHTS, 3]))
    with pytest.raises(EngineFileError):
        write_engine(path, sections()[:2])
    assert path.read_bytes() == b"the old engine"
    assert os.listdir(tmp_path) == ["e.strop"]
    write_engine(path, sections())
    assert os.listdir(tmp_path) == ["e.strop"] and len(read_header(path)) == 4


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "folder" / "e.strop", tmp_path):
        with pytest.raises(EngineFileError, match="cannot write") as caught:
            write_engine(path, sections())
        assert caught.value.where == str(path) and caught.value.hint
    assert os.listdir(tmp_path) == []


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_engine(tmp_path / "e.strop", sections())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "e.strop").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s + s[1:2], "2 plan sections"),
        (lambda s: s[1:], "0 manifest sections"),
        (lambda s: s[:2], "0 weights sections"),
        (lambda s: [*s, Section(SectionKind.KERNELS, "é", [])], "unusable name"),
        (lambda s: [*s, Section(SectionKind.KERNELS, "x" * 64, [])], "unusable name"),
        (lambda s: [*s, Section(SectionKind.KERNELS, "x\0", [])], "unusable name"),
        (lambda s: s + [Section(SectionKind.KERNELS, "x", [])] * 300, "too many sections"),
    ],
)
def test_what_is_no_engine_is_not_written(tmp_path: Path, change: object, message: str) -> None:
    with pytest.raises(EngineFileError, match=message):
        write_engine(tmp_path / "e.strop", change(sections()))  # type: ignore[operator]
    assert os.listdir(tmp_path) == []


def test_the_checksum_of_pieces_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, 50_000, np.uint8)
    for _ in range(20):
        cuts = np.sort(rng.integers(0, len(data), rng.integers(0, 30)))
        hasher = Hash64()
        for piece in np.split(data, cuts):
            hasher.update(piece)
        assert hasher.digest() == hash64(data)


def test_the_checksum_depends_on_every_bit_and_on_the_length() -> None:
    rng = np.random.default_rng(2)
    data = rng.integers(0, 256, 3 * ALIGNMENT, np.uint8)
    seen = {hash64(data)}
    for i in range(0, 8 * len(data), 61):
        changed = data.copy()
        changed[i // 8] ^= 1 << i % 8
        seen.add(hash64(changed))
    # Two sign bits of the same lane, which a plain multiplicative hash does not see.
    for distance in (64, 128, ALIGNMENT):
        changed = data.copy()
        changed[[7, 7 + distance]] ^= 0x80
        seen.add(hash64(changed))
    seen |= {hash64(np.zeros(n, np.uint8)) for n in (0, 1, 2, 4095, 4096, 8192)}
    assert len(seen) == 1 + len(range(0, 8 * len(data), 61)) + 3 + 6
