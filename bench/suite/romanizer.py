"""The Arabic and the Persian name romanizer: a GRU encoder once per name, an attention decoder once per letter, a beam of two.

Names are drawn from the package's own table; most of them were in the training set. The decoder is one step: the loop, the beam and
the state are the caller's. A source is the country, the role, the letters and an end mark; hypotheses are ranked by their mean log
probability (the package's ``inference.py``).
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.suite.pictures import edits
from bench.suite.task import Net, Reference, Run, Task, wilson

_MODELS = "arabic-name-romanizer/arabic_name_romanizer/resources"
_ENCODER = {"src": "1..2(1)x3..48(9)", "src_mask": "1..2(1)x3..48(9)"}
_DECODER = {
    "prefix": "1..2(2)x1..33(6)", "memory": "1..2(2)x3..48(9)x256", "src_mask": "1..2(2)x3..48(9)", "hidden": "1..2(2)x2x256"
}  # fmt: skip
BEAM, LONGEST = 2, 32
PAD, BOS, EOS = 0, 1, 2


def _net(name: str, file: str, shapes: dict[str, str]) -> Net:
    return Net(name, f"{_MODELS}/{file}", shapes)


ARABIC = (_net("romanizer_encoder", "encoder.onnx", _ENCODER), _net("romanizer_decoder", "decoder.onnx", _DECODER))
PERSIAN = (
    _net("romanizer_fa_encoder", "persian/encoder.onnx", _ENCODER),
    _net("romanizer_fa_decoder", "persian/decoder.onnx", _DECODER),
)


@dataclass(frozen=True)
class Name:
    """A row of the table."""

    source: str
    target: str
    country: str
    role: str


def names(folder: Path, persian: bool, count: int) -> list[Name]:
    """Drawn from the package's table with a fixed seed."""
    mark = "in" if persian else "not in"
    with sqlite3.connect(f"file:{folder / _MODELS / 'names.sqlite3'}?mode=ro", uri=True) as base:
        rows = base.execute(
            f"select arabic_key, latin, country, role from units where country {mark} ('IR', 'AF', 'TJ') order by rowid"
        ).fetchall()
    return [Name(*row) for row in random.Random(0).sample(rows, count)]


def _tokens(folder: Path, persian: bool) -> list[str]:
    path = folder / _MODELS / ("persian/vocab.json" if persian else "vocab.json")
    tokens = json.loads(path.read_text(encoding="utf-8"))["tokens"]
    return [str(token) for token in tokens]


def _source(name: Name, index: dict[str, int]) -> list[int]:
    unknown = index["<UNK>"]
    head = [f"<{name.country}>" if name.country else "<UNK_COUNTRY>", f"<ROLE_{name.role.upper() or 'UNKNOWN'}>"]
    if "<ROLE_UNKNOWN>" not in index:  # a network that was trained without roles
        head.pop()
    return [index.get(token, unknown) for token in (*head, *name.source)] + [EOS]


def decode(nets: Sequence[Net], run: Run, source: list[int]) -> list[list[int]]:
    """The hypotheses of a beam search, best first."""
    src = np.array([source], np.int64)
    encoded = run(nets[0], {"src": src, "src_mask": np.zeros(src.shape, bool)})
    memory, mask = (np.repeat(encoded[k], BEAM, axis=0) for k in ("memory_out", "src_mask_out"))
    hidden = np.repeat(encoded["hidden_out"], BEAM, axis=0)
    prefix = np.full((BEAM, 1), BOS, np.int64)
    scores, done, lengths = np.array([0.0, -np.inf]), np.zeros(BEAM, bool), np.zeros(BEAM, np.int64)
    for step in range(LONGEST):
        outputs = run(nets[1], {"prefix": prefix, "memory": memory, "src_mask": mask, "hidden": hidden})
        p = outputs["logprobs"].astype(np.float64)
        if step == 0:
            p[:, EOS] = -np.inf
        p[done] = -np.inf
        p[:, PAD] = np.where(done, 0.0, -np.inf)
        flat = (scores[:, None] + p).ravel()
        best = np.argsort(-flat, kind="stable")[:BEAM]
        rows, token = best // p.shape[1], best % p.shape[1]
        prefix, scores = np.concatenate([prefix[rows], token[:, None]], 1), flat[best]
        hidden = np.ascontiguousarray(outputs["hidden_out"][rows])
        lengths, done = lengths[rows] + ~done[rows], done[rows] | (token == EOS)
        if done.all():
            break
    order = sorted(range(BEAM), key=lambda k: -scores[k] / max(1, lengths[k]))
    return [prefix[k, 1:].tolist() for k in order if np.isfinite(scores[k])]


def _texts(hypotheses: list[list[int]], tokens: list[str]) -> list[str]:
    found = []
    for ids in hypotheses:
        body = ids[: ids.index(EOS)] if EOS in ids else ids
        found.append("".join(tokens[k] for k in body if not tokens[k].startswith("<")).strip())
    return found


def _measure(folder: Path, run: Run, persian: bool, count: int) -> tuple[float, float, float]:
    """Share of names that come first as in the table, that come first or second, and edits per character of the first."""
    tokens = _tokens(folder, persian)
    index = {token: k for k, token in enumerate(tokens)}
    exact = either = wrong = length = 0
    for name in names(folder, persian, count):
        found = _texts(decode(PERSIAN if persian else ARABIC, run, _source(name, index)), tokens)
        exact += found[0] == name.target
        either += name.target in found
        wrong, length = wrong + edits(found[0], name.target), length + len(name.target)
    return exact / count, either / count, wrong / length


def score(folder: Path, run: Run) -> dict[str, float]:
    """500 names from Arabic, 100 from Persian."""
    exact, either, cer = _measure(folder, run, False, 500)
    persian, _, _ = _measure(folder, run, True, 100)
    return {"exact@1": exact, "exact@2": either, "CER": cer, "Persian exact@1": persian}


_SOURCE = "onnxruntime 1.32 on 500 names drawn from the package's table"
TASK = Task(
    "romanizer",
    "names to Latin letters: encoder, and a decoder in a loop with a beam of two; names of the package's table",
    ("arabic-name-romanizer",),
    (*ARABIC, *PERSIAN),
    score,
    {
        "exact@1": Reference(0.380, wilson(190, 500)[0], 1, _SOURCE),
        "exact@2": Reference(0.508, wilson(254, 500)[0], 1, _SOURCE),
        "CER": Reference(0.203, 0, 0.24, _SOURCE),
    },
)
