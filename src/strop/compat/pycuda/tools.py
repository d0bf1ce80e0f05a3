"""Helpers of PyCUDA."""


def clear_context_caches() -> None:
    """Nothing is cached."""


def make_default_context() -> object:
    """A context."""
    from strop.compat.pycuda.driver import Context

    return Context()
