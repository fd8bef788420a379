"""Where the command `minireduce` begins: its modules load here, and Ctrl-C meanwhile ends it without a traceback.

Loading takes a tenth of a second, in which people do change their minds. Nothing was started yet that would have to be
ended, so the process leaves at once; from then on Ctrl-C is an exception like others, which `main` reports. Whoever
started the command with Ctrl-C ignored, as a shell does in the background, has it ignored.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import NoReturn

INTERRUPTED = 130
GARBAGE_THRESHOLD = 20_000
"""Objects made before the cycle collector looks at the youngest. At Python's own 700 it took a twelfth of the time that
modules take to load, of which nothing becomes garbage.
"""


def main() -> NoReturn:
    """Run the command line and exit."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    is_ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if not is_ignored:
        signal.signal(signal.SIGINT, _leave)
    from minireduce.cli.main import run
    from minireduce.leaving import leave

    if not is_ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    leave(run())


def _leave(_number: int, _frame: object) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
