"""The native runtime (C sources and headers) and its Python face; imports no part of the compiler."""
