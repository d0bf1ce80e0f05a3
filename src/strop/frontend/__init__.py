"""Frontends: bytes or calls to a Graph, a faithful translation with one function per source op."""
