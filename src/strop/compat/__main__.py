"""``python -m strop.compat run script.py``: runs a script of another API on Strop."""

import sys

from strop.compat.shims import NAMES, run

_USAGE = f"""usage: python -m strop.compat run SCRIPT [ARGUMENTS]

Runs a script with {', '.join(NAMES)} replaced by Strop's own."""


def main() -> int:
    """Runs the command line."""
    if len(sys.argv) < 3 or sys.argv[1] != "run":
        print(_USAGE, file=sys.stderr)
        return 2
    run(sys.argv[2], sys.argv[3:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
