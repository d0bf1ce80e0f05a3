"""The text file of what was measured: order, merging, and files that are not what they should
be."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from strop.kernels.table import KERNELS
from strop.target.detect import host
from strop.tune import records as rec
from strop.tune.records import HEADER, VERDICTS, WEIGHTS_FROM, Key, Records

KEY = Key(
    "0123456789abcdef",
    "AMD-EPYC-25.17.1/32K/1024K/32768K",
    2,
    "memory",
    "conv_direct(mr=6, nv=4)",
    "89abcdef",
)


def made(results: dict[Key, int | str]) -> Records:
    records = Records()
    for key, result in results.items():
        records.put(key, result)
    return records


def random_records(rng: np.random.Generator) -> Records:
    records = Records()
    for _ in range(30):
        key = replace(
            KEY,
            digest=f"{rng.integers(3):016x}",
            threads=int(rng.integers(1, 3)),
            weights=WEIGHTS_FROM[rng.integers(3)],
            candidate=f"k(a={rng.integers(3)})",
        )
        verdict = rng.integers(10) == 0
        records.put(key, VERDICTS[rng.integers(4)] if verdict else int(rng.integers(1, 10**9)))
    return records


def no_skip(number: int) -> None:
    pytest.fail(f"line {number} was skipped")


def test_text() -> None:
    other = replace(KEY, digest="0" * 16)
    text = made({KEY: 152340, other: "crashed"}).text()
    assert text.splitlines() == [
        HEADER,
        "0000000000000000 AMD-EPYC-25.17.1/32K/1024K/32768K 2 memory 89abcdef crashed conv_direct(mr=6, nv=4)",
        "0123456789abcdef AMD-EPYC-25.17.1/32K/1024K/32768K 2 memory 89abcdef 152340 conv_direct(mr=6, nv=4)",
    ]


def test_text_is_read_back() -> None:
    for seed in range(20):
        records = random_records(np.random.default_rng(seed))
        assert Records.parse(records.text(), no_skip).results == records.results


def test_merge_keeps_the_fastest_and_does_not_depend_on_order() -> None:
    slow, fast, wrong = (made({KEY: r}) for r in (900, 800, "wrong"))
    for order in itertools.permutations((slow, fast)):
        total = Records()
        for records in order:
            total.merge(records)
        assert total.results == {KEY: 800}
    for order in itertools.permutations((slow, fast, wrong)):
        total = Records()
        for records in order:
            total.merge(records)
        assert total.results == {KEY: "wrong"}


def test_merging_random_records_commutes_for_times() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = random_records(rng), random_records(rng)
        ab, ba = Records(), Records()
        ab.merge(a), ab.merge(b)
        ba.merge(b), ba.merge(a)
        assert ab.results.keys() == ba.results.keys() == a.results.keys() | b.results.keys()
        for key, result in ab.results.items():
            assert ba.results[key] == result or isinstance(result, str)
            times = [r.results[key] for r in (a, b) if key in r.results]
            if all(isinstance(t, int) for t in times):
                assert result == min(times)


def test_write_merges_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "records" / "x.txt"
    other = replace(KEY, threads=1)
    made({KEY: 900}).write(path)
    made({KEY: 950, other: 10}).write(path)
    assert Records.read(path, pytest.fail).results == {KEY: 900, other: 10}
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_a_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.txt"
    made({KEY: 900}).write(path)

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(rec.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        made({KEY: 800}).write(path)
    assert Records.read(path, pytest.fail).results == {KEY: 900}
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


GOOD = made({KEY: 900}).text().splitlines()[1]
BAD_LINES = [
    "hello",
    GOOD.replace("0123456789abcdef", "0123456789abcdeg"),
    GOOD.replace(" 2 ", " -2 "),
    GOOD.replace("memory", "moon"),
    GOOD.replace(" 900 ", " 9.5 "),
    GOOD.replace(" 900 ", " 9999999999999999 "),
    GOOD.replace(" 900 ", " fine "),
    GOOD.replace(" conv_direct(mr=6, nv=4)", ""),
    GOOD + "\x07",
    GOOD + "é",
    GOOD.replace("AMD", "A" * 300),
    GOOD[:40],
    " " + GOOD,
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_line_is_skipped_and_noted(line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    other = replace(KEY, threads=1)
    path.write_text(f"{HEADER}\n{line}\n{made({other: 7}).text()}", encoding="utf-8")
    notes: list[str] = []
    assert Records.read(path, notes.append).results == {other: 7}
    assert notes == ["tune: 1 unreadable lines of records x.txt were skipped, the first is line 2"]


def test_unusable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    assert len(Records.read(tmp_path / "absent.txt", notes.append)) == 0 and notes == []
    path = tmp_path / "noise.txt"
    path.write_bytes(bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)))
    assert len(Records.read(path, notes.append)) == 0 and "noise.txt" in notes.pop()
    assert len(Records.read(tmp_path, notes.append)) == 0 and "cannot be read" in notes.pop()
    path.write_text(made({KEY: 900}).text())
    monkeypatch.setattr(rec, "_LARGEST", 100)
    assert len(Records.read(path, notes.append)) == 0 and "larger" in notes.pop()


def test_columns_of_this_machine_fit_the_format() -> None:
    """What is written here can be read back: processor, code and every kernel's labels."""
    target = host()
    records = Records()
    for kernel in KERNELS:
        label = f"{kernel.name}(a=1)"
        records.put(
            Key("0" * 16, rec.cpu_of(target), target.cores, "l3", label, rec.code_of(kernel)), 1
        )
        records.put(
            Key("0" * 16, rec.cpu_of(target), target.cores, "l3", label, rec.code_of_verdicts()),
            "hung",
        )
    assert Records.parse(records.text(), no_skip).results == records.results
    assert len(records) == 2 * len({kernel.name for kernel in KERNELS})


def test_code_follows_the_kernel_s_own_file() -> None:
    by_file: dict[Path, set[str]] = {}
    for kernel in KERNELS:
        by_file.setdefault(rec._file_of(kernel), set()).add(rec.code_of(kernel))
    assert all(len(codes) == 1 for codes in by_file.values())
    assert len(set.union(*by_file.values())) == len(by_file)


def test_code_of_processors_does_not_follow_what_cannot_change_their_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle and the kernels of GPUs: records outlive changes of these."""
    seen: list[Path] = []
    monkeypatch.setattr(rec, "_hash", lambda files: seen.extend(files) or "")
    rec._shared_code.__wrapped__()
    names = {path.name for path in seen}
    assert {"base.py", "clock.c", "worker.py"} <= names and "oracle.py" not in names
    assert not any("triton" in path.parts for path in seen)
