"""`python -m rlm_local` is `rlm-local`.

The console script starts here, too.
"""

from __future__ import annotations

import signal
import sys


def run() -> None:
    """Run the command line in a process of its own, and end that with its exit code."""
    # The commands take a third of a second to load. Ctrl-C ends us without a word while they do.
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from rlm_local.cli.main import main
    from rlm_local.cli.streams import mend_standard_streams

    if is_heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    mend_standard_streams()
    sys.exit(main())


if __name__ == "__main__":
    run()
