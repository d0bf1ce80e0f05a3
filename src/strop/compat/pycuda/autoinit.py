"""Importing this makes a context; here there is nothing to make."""

from strop.compat.pycuda.driver import Context, Device

device = Device(0)
context = Context()
