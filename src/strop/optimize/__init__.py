"""Target-free rewrites: the imported graph becomes the portable one. One pass per file; ``pipeline`` orders them."""
