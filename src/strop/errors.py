"""Every exception of Strop. A message says what failed, where, what was got, what was expected and what to try."""

from __future__ import annotations


class StropError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: one sentence, what failed.
        where: layer, file, option or stage it concerns.
        got: what was found.
        expected: what would have been right.
        hint: what the user can try.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.got = None if got is None else str(got)
        self.expected = None if expected is None else str(expected)
        self.hint = hint
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.what]
        for label, text in (
            ("where", self.where),
            ("got", self.got),
            ("expected", self.expected),
            ("try", self.hint),
        ):
            if text is not None:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)


class ModelError(StropError):
    """A model file or network definition cannot be read: corrupt, inconsistent or incomplete."""


class UnsupportedError(StropError):
    """Something valid that Strop does not do: an op, an attribute value, a dtype, a target."""


class ShapeError(StropError):
    """Shapes, dtypes or ranks of an op's operands do not fit together."""


class GraphError(StropError):
    """An unsafe edit of the graph was refused."""


class VerifyError(StropError):
    """A stage's executable specification does not hold. This is a defect of Strop."""


class ToolchainError(StropError):
    """The C compiler is missing or failed."""


class TargetError(StropError):
    """A target is unknown, or this machine cannot run its code."""


class KernelError(StropError):
    """A kernel gave a wrong result or could not be emitted. This is a defect of Strop."""


class EngineFileError(StropError):
    """An engine file is truncated, corrupt, hostile or of another version."""


class InputError(StropError):
    """Arrays handed to an engine have wrong names, dtypes, ranks or shapes."""


class CustomError(StropError):
    """A custom layer is not registered, failed, or gave what it should not."""


class RuntimeFailure(StropError):
    """The native runtime reported a failure while loading or running."""


class OptionError(StropError):
    """A command-line option, knob or argument has an unusable value."""


class PlacementWarning(UserWarning):
    """Steps of an engine for a GPU run on the processor."""
