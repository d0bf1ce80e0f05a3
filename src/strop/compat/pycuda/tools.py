"""Helpers of PyCUDA."""

from strop.compat.pycuda.driver import Context


def clear_context_caches() -> None:
    """Nothing is cached."""


def make_default_context() -> Context:
    """A context."""
    return Context()
