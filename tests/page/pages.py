"""Pages to test, and a browser to open them in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: A name that would run a script wherever it was taken for markup, an attribute or a string of a script.
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'\"`${alert(1)}<!--\u2028"


def browser() -> str:
    """Path of a Chromium; skips the test when there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return found


@dataclass
class Seen:
    """What a browser made of a page.

    Attributes:
        elements: how many of each tag.
        sources: the ``data-source`` attributes.
        text: of the document.
        title: of the document.
        console: what scripts and the browser complained about.
        requests: addresses that the page asked for.
    """

    elements: Counter[str] = field(default_factory=Counter)
    sources: list[str] = field(default_factory=list)
    text: str = ""
    title: str = ""
    console: list[str] = field(default_factory=list)
    requests: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen, self.tags = seen, [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.seen.elements[tag] += 1
        self.seen.sources += [value or "" for name, value in attrs if name == "data-source"]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        if self.tags[-1] == "title":
            self.seen.title += data
        if self.tags[-1] not in ("script", "style"):
            self.seen.text += data


def opened(page: Path, tmp_path: Path) -> Seen:
    """Opens a page in a headless browser and waits for its scripts."""
    log = tmp_path / "net.json"
    done = subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
         f"--log-net-log={log}", "--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seen = Seen(console=[line for line in done.stderr.splitlines() if "CONSOLE" in line])
    _Reader(seen).feed(done.stdout)
    seen.title = seen.title.strip()
    net = json.loads(log.read_text())
    kinds = net["constants"]["logEventTypes"]
    for event in net["events"]:
        given = event.get("params", {})
        if event["type"] == kinds["URL_REQUEST_START_JOB"] and "url" in given and given.get("initiator") != "not an origin":  # the browser's own have none
            seen.requests.add(given["url"])
    return seen


def data_of(page: Path) -> dict[str, Any]:
    """The data in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data
