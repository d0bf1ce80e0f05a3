"""The page of a report in a browser: it draws, complains about nothing, asks for nothing, and runs nothing that a file brings in."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from strop.engine.build import build
from strop.engine.engine import Engine
from strop.engine.page.assemble import embedded
from strop.engine.report import Extra, report
from tests import tiny_net
from tests.page.pages import HOSTILE, Seen, data_of, opened


def check(seen: Seen, names: list[str]) -> None:
    assert seen.console == []
    assert seen.requests == set()
    assert sorted(seen.sources) == sorted(names)  # every node of the model, once


def test_what_a_page_asks_for_and_complains_about_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<img src='http://127.0.0.1:9/x'><script>missing()</script>")
    seen = opened(path, tmp_path)
    assert seen.requests == {"http://127.0.0.1:9/x"}
    assert any("missing is not defined" in line for line in seen.console)


def test_one_engine(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    report([tiny_net.engine()], seconds=0.02, roofline=False).save(path)
    seen = opened(path, tmp_path)
    check(seen, list(tiny_net.NODES))
    assert seen.title == "tiny: Strop report"
    for word in ("Five factors", "Throughput", "Efficiency", "Latency", "Accuracy", "Memory", "8 nodes of the model became 3 kernels",
                 "Roofline", "Candidates", "conv_direct", "inferences/s"):  # fmt: skip
        assert word in seen.text, word


def test_several_engines_with_scores(tmp_path: Path) -> None:
    engine, path = tiny_net.engine(), tmp_path / "page.html"
    int8 = build(tiny_net.model_file(), level=0, threads=1, precision="int8")
    sqnr = {"conv1": 31.5, "fc": float("inf")}
    report([engine, int8], extras=[Extra(name="float"), Extra(name="int8", sqnr=sqnr, reference="float")], seconds=0.02, roofline=False).save(path)
    seen = opened(path, tmp_path)
    check(seen, list(tiny_net.NODES))
    assert "Side by side" in seen.text and seen.title.startswith("2 engines")
    assert [e["name"] for e in data_of(path)["engines"]] == ["float", "int8"]
    shown = {layer["name"]: layer["sqnr_text"] for layer in data_of(path)["engines"][1]["layers"] if layer["sqnr_text"]}
    assert shown == {"conv1": "31.5", "relu1": "31.5", "fc": "exact"}  # relu1 is inside of the kernel of conv1


def hostile() -> Engine:
    """An engine whose every text is a script."""
    engine = Engine(tiny_net.engine_file())
    manifest = copy.deepcopy(engine.manifest)

    def spoil(value: object) -> object:
        if isinstance(value, dict):
            return {k: spoil(v) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v) for v in value]
        return f"{value}{HOSTILE}" if isinstance(value, str) else value

    spoilt = {k: spoil(manifest[k]) for k in ("model", "target", "isa", "steps", "sources", "buffers")}
    engine._manifest = {**manifest, **spoilt, "notes": [HOSTILE]}
    return engine


def test_names_out_of_a_file_are_text(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    plain = tmp_path / "plain.html"
    report([hostile()], seconds=0.02, run=False).save(path)
    report([tiny_net.engine()], seconds=0.02, run=False).save(plain)
    text = path.read_text(encoding="utf-8")
    assert text.count("<script") == plain.read_text(encoding="utf-8").count("<script") and "<img" not in text
    seen = opened(path, tmp_path)
    check(seen, [f"{name}{HOSTILE}" for name in tiny_net.NODES])
    assert seen.title == f"tiny{HOSTILE}: Strop report"
    assert seen.elements["script"] == 2 and seen.elements["img"] == 0
    assert "onerror" in seen.text  # as text


def test_data_cannot_end_their_element() -> None:
    assert embedded({"a": "</script>&<!--\u2028", "b": [float("nan"), float("inf"), 1.23456789]}) == (
        '{"a":"\\u003c/script\\u003e\\u0026\\u003c!--\\u2028","b":[null,null,1.23457]}'
    )


def test_the_page_is_whole_by_itself(tmp_path: Path) -> None:
    page = report([tiny_net.engine()], run=False).html
    outside = re.sub(r"http://www\.w3\.org/[\w/]+", "", page)  # names of vocabularies
    assert not re.search(r"https?://|//cdn|@import|url\(", outside)
    assert "default-src 'none'" in page and "script-src 'sha256-" in page
    assert "innerHTML" not in page and "eval(" not in page and "document.write" not in page


@pytest.mark.slow
def test_the_keyboard_is_enough(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    from tests.page.pages import browser

    path = tmp_path / "page.html"
    report([tiny_net.engine()], seconds=0.02, roofline=False).save(path)
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        page = chromium.new_page()
        page.goto(path.as_uri())
        transform = "document.querySelector('.graph g').getAttribute('transform')"
        page.focus(".graph svg")
        before = page.evaluate(transform)
        page.keyboard.press("+")
        page.keyboard.press("ArrowDown")
        assert page.evaluate(transform) != before
        page.focus(".graph .node[tabindex='0']")
        page.keyboard.press("PageDown")
        page.keyboard.press("Enter")
        assert page.text_content(".about h4") == "relu1"
        assert page.locator(".graph .lit[data-source]").count() == 2 and page.locator(".graph .lit[data-step='0']").count() == 1
        page.fill("#graph input", "fc")
        assert page.locator(".node.hit").count() == 2
        page.fill("#layers input", "conv2")
        assert page.locator("#layers tbody tr").count() == 1
        chromium.close()
