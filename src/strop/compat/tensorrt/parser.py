"""OnnxParser: ONNX models into networks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from strop.compat.tensorrt.basics import FAILURES, Flags, ILogger, Managed, failed
from strop.compat.tensorrt.enums import ErrorCode
from strop.compat.tensorrt.network import INetworkDefinition
from strop.errors import ShapeError, StropError, UnsupportedError
from strop.frontend.network import import_graph
from strop.frontend.onnx import read_onnx, survey
from strop.frontend.onnx.registry import RULES


class ParserError:
    """Why a model could not be parsed."""

    def __init__(self, error: Exception, node: int = -1, name: str = "", op: str = "") -> None:
        self._error, self._node, self._name, self._op = error, node, name, op

    def code(self) -> Any:
        """Kind of error."""
        if isinstance(self._error, UnsupportedError):
            return ErrorCode.UNSUPPORTED_NODE
        return ErrorCode.INVALID_NODE if isinstance(self._error, ShapeError) else ErrorCode.MODEL_DESERIALIZE_FAILED

    def desc(self) -> str:
        """What is wrong, where, and what to try."""
        return str(self._error)

    def file(self) -> str:
        """Empty: errors name the model, not the source of the parser."""
        return ""

    def line(self) -> int:
        """0."""
        return 0

    def func(self) -> str:
        """Empty."""
        return ""

    def node(self) -> int:
        """Number of the node; -1 when it is about none."""
        return self._node

    def node_name(self) -> str:
        """Name of the node."""
        return self._name or (self._error.where or "" if isinstance(self._error, StropError) else "")

    def node_operator(self) -> str:
        """Op type of the node."""
        return self._op

    def local_function_stack(self) -> list[str]:
        """Empty: functions are expanded."""
        return []

    def local_function_stack_size(self) -> int:
        """0."""
        return 0

    def __str__(self) -> str:
        return self.desc()

    __repr__ = __str__


class OnnxParser(Managed, Flags):
    """Reads ONNX models into a network."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self.network = network
        self.logger = logger
        self._errors: list[ParserError] = []

    def parse(self, model: Any, path: str | None = None) -> bool:
        """Reads the bytes of a model; ``path`` says where its external data lies."""
        return self._parse(bytes(model) if path is None else path)

    def parse_from_file(self, model: str) -> bool:
        """Reads a file."""
        return self._parse(model)

    parse_with_weight_descriptors = parse

    def _parse(self, source: bytes | str) -> bool:
        self.clear_errors()
        try:
            self._read(Path(source) if isinstance(source, str) else source)
        except FAILURES as error:
            self._record(source, error)
            failed(self.logger, error)
            return False
        return True

    def _read(self, source: Path | bytes) -> None:
        self.network.own.implicit_batch = False
        self.network._undecided = False
        import_graph(self.network.own, read_onnx(source))

    def _record(self, source: bytes | str, error: Exception) -> None:
        """One error per node that cannot be read, else the error itself."""
        verdicts = []
        with suppress(*FAILURES):
            verdicts = survey(Path(source) if isinstance(source, str) else source)
        for number, verdict in enumerate(verdicts):
            if verdict.reason:
                found = UnsupportedError(verdict.reason, where=verdict.name, hint=verdict.hint)
                self._errors.append(ParserError(found, number, verdict.name, verdict.op_type))
        if not self._errors:
            self._errors.append(ParserError(error))

    # ---- errors

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        """An error of the last call."""
        return self._errors[index]

    def clear_errors(self) -> None:
        """Forgets errors."""
        self._errors = []

    # ---- questions

    def supports_operator(self, op_name: str) -> bool:
        """Whether nodes of an op type can be read."""
        return any(op_type == op_name for _, op_type in RULES)

    def supports_model(self, model: Any, path: str | None = None) -> tuple[bool, list[tuple[list[int], bool]]]:
        """(whether all nodes can be read, stretches of nodes that can and cannot)."""
        return self._stretches(model, path)

    def _stretches(self, model: Any, path: str | None) -> tuple[bool, list[tuple[list[int], bool]]]:
        stretches: list[tuple[list[int], bool]] = []
        for number, verdict in enumerate(survey(bytes(model) if path is None else Path(path))):
            if not stretches or stretches[-1][1] != verdict.supported:
                stretches.append(([], verdict.supported))
            stretches[-1][0].append(number)
        return all(ok for _, ok in stretches), stretches

    def supports_model_v2(self, model: Any, path: str | None = None) -> bool:
        """Whether all nodes can be read."""
        self._found = self._stretches(model, path)
        return self._found[0]

    num_subgraphs = property(lambda self: len(self._found[1]))

    def is_subgraph_supported(self, index: int) -> bool:
        """Whether a stretch of nodes can be read."""
        return self._found[1][index][1]

    def get_subgraph_nodes(self, index: int) -> list[int]:
        """The nodes of a stretch."""
        return self._found[1][index][0]

    def get_used_vc_plugin_libraries(self) -> list[str]:
        """Empty."""
        return []

    def get_layer_output_tensor(self, name: str, i: int) -> Any:
        """A result of a node."""
        for layer in self.network.own.layers:
            if layer.name == name and i < len(layer.outputs):
                return self.network.tensor(layer.outputs[i])
        return None


class OnnxParserRefitter:
    """Refits an engine with the weights of a model."""

    def __init__(self, refitter: Any, logger: ILogger) -> None:
        self.refitter, self.logger = refitter, logger
        self._errors: list[ParserError] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        """An error of the last call."""
        return self._errors[index]

    def clear_errors(self) -> None:
        """Forgets errors."""
        self._errors = []

    def refit_from_bytes(self, model: Any, path: str | None = None) -> bool:
        """Gives the refitter all weights of a model that the engine has too."""
        return self._refit(bytes(model))

    def refit_from_file(self, model: str) -> bool:
        """Likewise of a file."""
        return self._refit(Path(model))

    def _refit(self, source: bytes | Path) -> bool:
        self.clear_errors()
        try:
            known = set(self.refitter.get_all_weights())
            for value in read_onnx(source).constants():
                if value.name in known:
                    self.refitter.set_named_weights(value.name, value.const)
        except FAILURES as error:
            self._errors.append(ParserError(error))
            failed(self.logger, error)
            return False
        return True
