"""What the ``add_*`` methods of INetworkDefinition share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from strop.compat.tensorrt.basics import FAILURES


def adds(method: Callable[..., Any]) -> Callable[..., Any]:
    """An ``add_*`` method: failures are logged, the answer is None then. The object has ``failed``."""

    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except FAILURES as error:
            return self.failed(error)

    return wrapper


def name_in(enum: Any, value: Any) -> str:
    """The name of an enum's member in lower case, which is what Strop's layers call it."""
    return str(enum(value).name.lower())
