"""Objects and progress bars in notebooks."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from strop.engine import notebook
from strop.engine.bench import bench
from strop.engine.build import build
from strop.engine.engine import Engine
from strop.engine.provenance import profile
from strop.engine.report import report
from tests import tiny_net

HOSTILE = "<img src=x onerror=alert(1)>&\""


class Tags(HTMLParser):
    """Tags of a text, all closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_objects_are_tables() -> None:
    engine = tiny_net.engine()
    assert "f32[1, 3, 8, 8]" in Tags(engine._repr_html_()).text
    assert "inferences/s" in Tags(bench(engine, runs=2, warmup=0)._repr_html_()).text
    shown = Tags(profile(engine, runs=3)._repr_html_())
    assert "conv2" in shown.text and shown.seen.count("tr") == 9  # a line, a head and seven nodes with a step
    page = report(engine, run=False)._repr_html_()
    assert page.startswith("<iframe srcdoc=") and page.count('"') == 6  # what the page has is escaped
    assert Tags(page).seen == ["iframe"]


def test_names_are_escaped() -> None:
    engine = Engine(tiny_net.engine_file())
    engine._manifest = {**engine.manifest, "model": HOSTILE}
    shown = Tags(engine._repr_html_())
    assert "img" not in shown.seen and HOSTILE in shown.text
    assert "img" not in Tags(notebook.table_html([HOSTILE], [[HOSTILE]])).seen


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook would show, update by update."""
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)

    def display(text: str, display_id: bool) -> Any:
        shown.append(text)
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))  # type: ignore[arg-type]
    return shown


def test_a_build_shows_a_bar(cells: list[str]) -> None:
    build(tiny_net.model_file(), level=0, threads=1)
    assert any("frontend" in text for text in cells) and any("<progress" in text for text in cells)
    assert cells[-1] == ""  # it goes away
    count = len(cells)
    build(tiny_net.model_file(), level=0, threads=1, progress=lambda stage, done, total: None)
    assert len(cells) == count  # whoever asks for another one has it alone


def test_no_bar_outside_of_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook.bar_of_notebook() is None
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None)))  # type: ignore[arg-type]
    assert notebook.bar_of_notebook() is None
