"""``tf.lite.experimental.Analyzer``: what is in a .tflite file, as TensorFlow prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strop.frontend.tflite.model import Model, Operator, Subgraph, Tensor, load

#: Elements of a constant that are shown.
_SHOWN = 5


class Analyzer:
    """Describes files."""

    @staticmethod
    def analyze(model_path: Any = None, model_content: bytes | None = None, gpu_compatibility: bool = False, **kwargs: Any) -> None:
        """Prints subgraphs, operators, tensors, signatures and sizes.

        Args:
            model_path, model_content: a file or its bytes.
            gpu_compatibility: says that this is not judged.

        Raises:
            ValueError: neither is given, or MLIR is asked for, which there is none of.
            ModelError: the file is unsound.
        """
        if not model_path and not model_content:
            raise ValueError("neither `model_path` nor `model_content` is provided")
        if kwargs.get("experimental_use_mlir"):
            raise ValueError("experimental_use_mlir is refused: strop dump prints the graph")
        source = str(model_path) if model_path else bytes(model_content or b"")
        size = Path(source).stat().st_size if isinstance(source, str) else len(source)
        print(f"=== {model_path} ===\n" if model_path else "=== TFLite ModelAnalyzer ===\n")
        print("\n".join(_lines(load(source), size)))
        if gpu_compatibility:
            print("\nWhether a GPU delegate would take the model is not judged: Strop has no code for GPUs of this kind.")


def _lines(model: Model, size: int) -> list[str]:
    graphs = model.subgraphs
    lines = [f"Your TFLite model has '{len(graphs)}' subgraph(s). In the subgraph description below,"]
    operator = next((o for o in graphs[0].operators if o.outputs), None)
    if operator is not None:
        taken, made = ([f"tensor #{k}" for k in numbers if k >= 0] for numbers in (operator.inputs, operator.outputs))
        lines.append(f"T# represents the Tensor numbers. For example, in Subgraph#0, the {operator.custom or operator.code} op takes")
        lines.append(f"{' and '.join(taken)} as input and produces {' and '.join(made)} as output.")
    for number, graph in enumerate(graphs):
        lines += ["", *_subgraph(graph, number)]
    lines += ["", "-" * 63]
    if model.signatures:
        lines += [f"Your TFLite model has '{len(model.signatures)}' signature_def(s).", ""]
        for number, (key, signature) in enumerate(model.signatures.items()):
            lines += [f"Signature#{number} key: '{key}'", f"- Subgraph: Subgraph#{signature.subgraph}"]
            for title, side in (("Inputs", signature.inputs), ("Outputs", signature.outputs)):
                lines += [f"- {title}: ", *(f"    '{name}' : {_number(k, signature.subgraph)}" for name, k in side.items())]
            lines.append("")
        lines.append("-" * 63)
    buffers = {t.buffer.ctypes.data: t.buffer for g in graphs for t in g.tensors if t.buffer is not None and len(t.buffer)}
    data = sum(len(b) for b in buffers.values())
    zero = sum(len(b) for b in buffers.values() if not b.any())
    for title, count in (("Model size", size), ("Non-data buffer size", size - data), ("Total data buffer size", data), ("(Zero value buffers)", zero)):
        lines.append(f"{title + ':':>25} {count:10} bytes" + ("" if title == "Model size" else f" ({100 * count / size:05.2f} %)"))
    return lines


def _number(tensor: int, subgraph: int) -> str:
    return f"T#{tensor}" if subgraph == 0 else f"T#{subgraph}_{tensor}"


def _subgraph(graph: Subgraph, number: int) -> list[str]:
    def names(numbers: tuple[int, ...]) -> str:
        return ", ".join(_number(k, number) for k in numbers)

    lines = [f"Subgraph#{number} {graph.name}({names(graph.inputs)}) -> [{names(graph.outputs)}]"]
    for k, operator in enumerate(graph.operators):
        operands = ", ".join(_operand(graph, operator, i, number) for i in operator.inputs)
        lines.append(f"  Op#{k} {operator.custom or operator.code}({operands}) -> [{names(operator.outputs)}]")
    lines += ["", f"Tensors of Subgraph#{number}"]
    return lines + [f"  {_number(k, number)}{_tensor(t)}" for k, t in enumerate(graph.tensors)]


def _operand(graph: Subgraph, operator: Operator, index: int, number: int) -> str:
    if index < 0:
        return "T#-1"
    tensor = graph.tensors[index]
    shown = f"[{_elements(tensor)}]" if tensor.buffer is not None and tensor.type == "INT32" else ""
    return _number(index, number) + shown


def _elements(tensor: Tensor) -> str:
    if tensor.buffer is None or tensor.sparsity is not None or tensor.dtype is None:
        return "..."
    elements = tensor.elements()
    return ", ".join(f"{v:g}" if tensor.dtype.is_float else str(v) for v in elements[:_SHOWN].tolist()) + (", ..." if len(elements) > _SHOWN else "")


def _tensor(tensor: Tensor) -> str:
    shape = [-1 if k in tensor.free else d for k, d in enumerate(tensor.shape)]
    kept = "" if tensor.buffer is None else f" RO {len(tensor.buffer)} bytes, data:[{_elements(tensor)}]"
    return f"({tensor.name}) shape:{shape}, type:{tensor.type}{kept}"
