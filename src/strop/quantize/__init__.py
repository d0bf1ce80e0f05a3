"""Reduced precision: which values of a portable graph become integers or 16-bit floats, and in which ranges."""
