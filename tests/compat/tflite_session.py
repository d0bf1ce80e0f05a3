"""Runs in Strop's environment and in LiteRT's: the same calls on the same files; prints what came of each as JSON.

    python tflite_session.py MODULE FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

#: Calls that stand for wrong uses, by a name.
Calls = dict[str, Callable[[], object]]


def plain(value: Any) -> Any:
    """Of details, what JSON has."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, type):
        return value.__name__
    return value.item() if isinstance(value, np.generic) else value


def failure(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except Exception as error:  # whatever it is, it is compared
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def main() -> None:
    """All files, then wrong uses of one."""
    litert, folder = import_module(sys.argv[1]), Path(sys.argv[2])
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.tflite")):
        interpreter = litert.Interpreter(model_path=str(path))
        rng = np.random.default_rng(0)
        row: dict[str, Any] = {
            "inputs": plain(interpreter.get_input_details()), "outputs": plain(interpreter.get_output_details()),
            "tensors": plain(interpreter.get_tensor_details()), "ops": plain(interpreter._get_ops_details()),
            "signatures": plain(interpreter.get_signature_list()), "subgraphs": interpreter.num_subgraphs(),
        }  # fmt: skip
        interpreter.allocate_tensors()
        row["values"] = []
        for _ in range(4):
            for detail in interpreter.get_input_details():
                drawn = rng.standard_normal(detail["shape"]) * (1 if detail["dtype"] is np.float32 else 40)
                interpreter.set_tensor(detail["index"], np.asarray(drawn).astype(detail["dtype"]))
            interpreter.invoke()
            row["values"].append([interpreter.get_tensor(d["index"]).tolist() for d in interpreter.get_output_details()])
        found[path.name] = row
    interpreter = litert.Interpreter(model_path=str(folder / "two.tflite"))
    calls: Calls = {"invoke": interpreter.invoke, "get": lambda: interpreter.get_tensor(0), "set": lambda: interpreter.set_tensor(0, np.zeros((1, 2), np.int8))}
    row = {name: failure(call) for name, call in calls.items()}
    interpreter.allocate_tensors()
    calls = {
        "dtype": lambda: interpreter.set_tensor(0, np.zeros((1, 2), np.float32)), "shape": lambda: interpreter.set_tensor(0, np.zeros((2, 2), np.int8)),
        "rank": lambda: interpreter.set_tensor(0, np.zeros(2, np.int8)), "text": lambda: interpreter.set_tensor(0, "text"),
        "runner": interpreter.get_signature_runner, "none": litert.Interpreter, "threads": lambda: litert.Interpreter(str(folder / "two.tflite"), num_threads=0),
        "missing": lambda: litert.Interpreter("/nowhere.tflite"), "junk": lambda: litert.Interpreter(model_content=b"junk" * 9),
        "subgraph": lambda: interpreter.get_tensor_details(7), "other subgraph": lambda: interpreter.get_tensor(0, 9),
        "fine": lambda: interpreter.resize_tensor_input(0, [1, 2]),
    }  # fmt: skip
    row |= {name: failure(call) for name, call in calls.items()}
    view = interpreter.tensor(0)()
    row["view"] = failure(interpreter.invoke)
    del view
    row["no view"] = failure(interpreter.invoke)
    interpreter.resize_tensor_input(0, [2, 2])
    row["resized"] = failure(interpreter.invoke)
    interpreter.allocate_tensors()
    interpreter.invoke()
    row["resized output"] = plain(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).shape)
    runner = litert.Interpreter(model_path=str(folder / "signatures.tflite")).get_signature_runner("neg")
    row["signature"] = plain(runner(x=np.array([1, 2], np.float32)))
    row["signature details"] = plain([runner.get_input_details(), runner.get_output_details()])
    row["signature names"] = failure(lambda: runner(z=np.ones(2, np.float32)))
    row["signature count"] = failure(runner)
    found["calls"] = row
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
