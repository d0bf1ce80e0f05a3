"""Delegates: the names of TFLite's own are accepted where Strop does their work, others are refused with the reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

log = logging.getLogger("strop.compat.tflite")

#: What part of a library's name says what it is, and what becomes of it: accepted with a note, or refused with a reason.
_ACCEPTED = {
    "xnnpack": "the engine has compiled kernels for this processor already",
    "flex": "the engine reads TensorFlow ops itself, or refuses them by name when tensors are allocated",
    "gpu": "the engine runs on the processor: there is no code for GPUs",
    "nnapi": "the engine runs on the processor",
}
_REFUSED = {
    "edgetpu": "models compiled for an Edge TPU hold code for that device only; load the model that was given to edgetpu_compiler",
    "hexagon": "there is no code for Hexagon DSPs",
    "coreml": "there is no code for Apple's neural engine",
    "qnn": "there is no code for Qualcomm's accelerators",
    "armnn": "there is no code for Arm NN",
    "vx": "there is no code for VeriSilicon's accelerators",
    "ethosu": "there is no code for Ethos-U",
}


class Delegate:
    """A delegate that is accepted by name. It takes over no ops: the engine does them all.

    Attributes:
        name: which of those that are known.
        options: as they were given.
    """

    def __init__(self, library: str, options: Mapping[str, Any] | None = None) -> None:
        """ValueError with the reason for a delegate whose work is not done here."""
        stem = PurePath(str(library)).name.lower()
        self.name = next((known for known in _ACCEPTED if known in stem), "")
        self.options = dict(options or {})
        if self.name:
            log.warning("delegate %s is accepted and has no effect: %s", library, _ACCEPTED[self.name])
            return
        reason = next((why for known, why in _REFUSED.items() if known in stem), f"delegates that are known are {', '.join(_ACCEPTED)}; leave it out")
        raise ValueError(reason)

    def _get_native_delegate_pointer(self) -> int:
        """0: there is no native delegate."""
        return 0


def load_delegate(library: str, options: Mapping[str, Any] | None = None) -> Delegate:
    """A delegate by the name of its library.

    Raises:
        ValueError: one whose work is not done here, with the reason.
    """
    try:
        return Delegate(library, options)
    except ValueError as error:
        raise ValueError(f"Failed to load delegate from {library}\n{error}") from error
