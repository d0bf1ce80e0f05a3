"""auto against fp32: both in turns, what is slower, what was gained and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import auto
from strop import demo_data
from strop.engine.build import build
from strop.engine.peer_process import PeerError
from strop.engine.ratios import ratio
from strop.engine.versus import Settings, engines_in_turns
from tests.engine.planted import digits


def _found(shares: list[float], same: bool = False, notes: tuple[str, ...] = ()) -> auto.Found:
    return auto.Found("net", 1.0, 0.5, ratio(shares, [1.0] * len(shares)), {"int8": 2, "fp32": 1}, same, notes)


def test_slower_is_what_every_turn_says() -> None:
    verdicts = {
        "SLOWER": _found([1.03, 1.05]), "no slower": _found([1.01, 1.05]), "faster": _found([0.5, 0.6]), "the same": _found([0.9, 1.01], True)
    }  # fmt: skip
    for verdict, found in verdicts.items():
        assert auto.table([found]).rows[0][-1] == verdict and found.slower == (verdict == "SLOWER")
    assert auto.table([auto.Found("net", reason="it is gone\nfor good")]).rows[0][-4:] == ("it is gone", "", "", "NO")


def test_gains_and_refusals_are_told() -> None:
    single = tuple(f"auto: layer{k} stays in fp32: slow" for k in range(6))
    told = auto.lines([_found([0.5], notes=("auto: 2 of 8 layers in int8: 1 us instead of 2 us", *single))], 1)
    assert "0.500 x" in told[1] and "net: auto: 2 of 8 layers" in told[2] and told[-1] == "net: and 2 more by auto" and len(told) == 8


def test_engines_take_turns(tmp_path: Path) -> None:
    engine = build(demo_data.lenet_path(), level=0, threads=1)
    one, two = engines_in_turns([engine, engine], Settings(rounds=2, seconds=0.01))
    assert len(one) == len(two) == 2 and min(*one, *two) > 0
    saved = tmp_path / "lenet.strop"
    engine.save(saved)
    broken = build(demo_data.lenet_path(), level=0, threads=1)
    broken.path = tmp_path / "none.strop"  # type: ignore[misc]
    with pytest.raises(PeerError):
        engines_in_turns([engine, broken], Settings(rounds=1, seconds=0.01))


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/lenet.onnx").write_bytes(demo_data.lenet_path().read_bytes())
    np.save(tmp_path / "digits.npy", digits(0, 12)[0])
    data, page, kept = tmp_path / "r.json", tmp_path / "p.md", tmp_path / "engines"
    options = ["--models", str(tmp_path / "nets"), "--calibrate", str(tmp_path / "digits.npy"), "--preprocess", "unit", "--level", "0", "--engines", str(kept)]
    quick = ["--rounds", "2", "--seconds", "0.01", "--json", str(data), "--markdown", str(page)]
    assert auto.main([*options, "--build-only"]) == 0 and len(list(kept.iterdir())) == 2
    assert auto.main([*options, *quick]) == 0 and len(list(kept.iterdir())) == 2
    (net,) = json.loads(data.read_text(encoding="utf-8"))["nets"]
    assert net["share"]["median"] > 0 and sum(net["layers"].values()) == 4 and not net["reason"] and net["notes"]
    assert "| lenet |" in page.read_text(encoding="utf-8") and "auto takes" in capsys.readouterr().out
    (tmp_path / "nets/lenet.onnx").write_bytes(b"odd")
    assert auto.main([*options, *quick]) == 1
    assert "cannot read the model" in capsys.readouterr().err
