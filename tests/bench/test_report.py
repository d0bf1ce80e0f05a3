"""Tables, means, notes and Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import host, report
from strop.engine.versus import Entry
from strop.engine.versus_report import mean_lines, means, milliseconds, notes, table
from strop.errors import OptionError
from tests.bench import made

ABSENT = Entry("c", "cannot", "no file of its kind")


def rows() -> list[made.Row]:
    return [
        made.row("first", (1.0, 2.0, 1.0), 1, ABSENT, a=(2.0, 4.0, 2.2), b=(3.0, 6.0, 3.0)),
        made.row("second", (0.01, 0.01, 0.01), 1, ABSENT, a=(0.08, 0.08, 0.09), b=(0.05, 0.04, 0.06)),
        made.bad("third", "wrong"),
    ]


def test_table() -> None:
    found = table(rows())
    assert found.columns == ("net", "strop", "a", "b", "c", "best", "ratio", "range", "error")
    assert found.rows[0] == ("first", "1.000", "2.200", "3.000", "cannot", "a", "2.00", "[2.00, 2.20]", "2e-07")
    assert found.rows[1] == ("second", "0.0100", "0.0800", "0.0500", "cannot", "b", "5.00", "[4.00, 6.00]", "2e-07")
    assert found.rows[2] == ("third", "wrong", "not timed", "", "", "", "", "wrong", "")


@pytest.mark.parametrize(("ms", "text"), [(0.01234, "0.0123"), (1.23456, "1.235"), (9.9996, "10.000"), (123.456, "123.5")])
def test_milliseconds(ms: float, text: str) -> None:
    assert milliseconds(made.entry("a", ms)) == text


def test_means_are_geometric_and_per_runtime() -> None:
    found = means(rows())
    assert found["best"] == pytest.approx((2 * 5) ** 0.5)
    assert found["a"] == pytest.approx((2 * 8) ** 0.5)
    assert found["b"] == pytest.approx((3 * 5) ** 0.5)
    assert "c" not in found
    assert mean_lines(rows())[0] == "the fastest other runtime takes 3.16 x Strop's time (geometric mean of 2 nets)"
    assert means([made.bad("third", "wrong")]) == {}


def test_notes_say_who_was_left_out_and_what_was_disturbed() -> None:
    busy = made.row("busy", (1.0,), 1, made.entry("d", 1.0, waited=0.25), a=(1.0,))
    text = "\n".join(notes([*rows(), busy]))
    assert "c: cannot on 2 of 4: no file of its kind" in text
    assert "strop: wrong on 1 of 4: differs" in text
    assert "disturbed by other processes: 1 of 4, busy the most (25 %" in text
    assert notes([made.row("quiet", (1.0,), a=(1.0,))]) == []


def test_a_net_that_was_not_built_is_named() -> None:
    unbuilt = made.Row("net", 1, "failed", "unsupported op", ())
    assert notes([unbuilt]) == ["net: failed: unsupported op"]
    assert table([unbuilt]).rows == (("net", "", "", "", "failed", ""),)


def test_share_of_the_peaks() -> None:
    found = made.result(made.row("net", (100.0,), a=(150.0,)))
    # 2 Gflop in 0.1 s are 20 Gflop/s of 100; 10 MB in 0.1 s are 0.1 GB/s of 10.
    assert found.flops_share == pytest.approx(0.2) and found.bandwidth_share == pytest.approx(0.01)
    assert report.result_table([found]).rows[0][-2:] == ("20", "1")
    without = made.result(made.row("net", (100.0,), a=(150.0,)), peaks=None)
    assert report.result_table([without]).rows[0][-2:] == ("", "")


def test_layers() -> None:
    found = report.layer_table(made.result(made.row("net", (5.0,), a=(5.0,)), layers=made.LAYERS))
    assert found.rows[0] == ("conv1", "conv", "winograd", "4000.0", "80.0", "250.0", "250", "0.2", "2")
    assert found.rows[1] == ("fc", "matmul", "direct", "1000.0", "20.0", "1.0", "1", "4.0", "40")


def test_speed_up_over_one_thread() -> None:
    one, two = made.row("net", (3.0,), 1, a=(3.0,)), made.row("net", (2.0,), 2, a=(3.0,))
    alone = made.row("other", (3.0,), 1, a=(3.0,))
    found = report.scaling(made.results(*map(made.result, (one, two, alone))))
    assert found is not None and found.rows == (("net", "x86-64-v4", "1", "1.50"),)
    assert report.scaling(made.results(made.result(one))) is None


def test_markdown() -> None:
    results = made.results(*map(made.result, rows()), made.result(made.row("first", (1.0,), 2, a=(3.0,)), layers=made.LAYERS))
    text = report.markdown(results, "chart.svg")
    assert "Machine: a processor; 2 cores; L1 32K; Linux; load average 0.10 at the start." in text
    assert "Measured: 2026-01-02 03:04 UTC; 3 rounds of 0.1 s per runtime; every process on the same cores; built at level 3." in text
    assert "![Time of every runtime by Strop's](chart.svg)" in text
    assert "### x86-64-v4, 1 thread, batch 1" in text and "### x86-64-v4, 2 threads, batch 1" in text
    assert "| first | 1.000 | 2.200 | 3.000 | cannot | a | 2.00 | [2.00, 2.20] | 2e-07 | 2000 | 100 |" in text
    assert "- c: cannot on 2 of 3: no file of its kind" in text
    assert "### Steps of first: x86-64-v4, 2 threads, batch 1" in text and "| conv1 | conv | winograd |" in text


def test_cells_do_not_break_the_table() -> None:
    assert report.pipes(report.Table(("a|b",), (("c|d",),), ())).splitlines()[0] == "| a|b |".replace("a|b", "a\\|b")


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Title\n\n<!-- begin compare -->\nold\n<!-- end compare -->\n\nlast\n", encoding="utf-8")
    report.replace_section(path, "compare", "new\n")
    assert path.read_text("utf-8") == "# Title\n\n<!-- begin compare -->\n\nnew\n\n<!-- end compare -->\n\nlast\n"
    report.replace_section(path, "compare", "newer")
    assert "newer" in path.read_text("utf-8") and path.read_text("utf-8").count("begin compare") == 1


@pytest.mark.parametrize("text", ["no markers", "<!-- begin a --><!-- begin a --><!-- end a -->", "<!-- end a --> <!-- begin a -->"])
def test_a_page_without_the_markers_is_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match="not marked"):
        report.replace_section(path, "a", "new")
    assert path.read_text("utf-8") == text


def test_a_page_is_made(tmp_path: Path) -> None:
    report.replace_section(tmp_path / "new.md", "a", "text")
    report.replace_section(tmp_path / "new.md", "a", "other")
    assert (tmp_path / "new.md").read_text("utf-8") == "<!-- begin a -->\n\nother\n\n<!-- end a -->\n"


def test_the_documentation_has_the_markers_that_the_tools_write() -> None:
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in ("compare", "compare-avx2", "overhead"):
        assert page.count(f"<!-- begin {name} -->") == page.count(f"<!-- end {name} -->") == 1


def test_facts_about_this_machine() -> None:
    found = host.facts()
    assert set(found) == set(made.HOST) - {"date"}
    assert found["cores"] >= 1 and host.describe(found)


@pytest.mark.parametrize(
    ("change", "count"),
    [({}, 0), ({"load": 0.6}, 1), ({"load": None}, 0), ({"governor": "powersave", "load": 3.0}, 2), ({"governor": "performance"}, 0)],
)
def test_warnings(change: dict[str, object], count: int) -> None:
    assert len(host.warnings({**made.HOST, **change})) == count
