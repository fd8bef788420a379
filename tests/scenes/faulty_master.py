"""`minireduce-master` in which one of SQLite's calls fails for good: the one numbered FAILING_CALL.

Calls are counted once the master serves, since what fails before that keeps it from starting.
"""

from __future__ import annotations

import os

from scenes.sqlite_faults import faults

from minireduce.launch import child, master_main

if __name__ == "__main__":
    with faults(int(os.environ["FAILING_CALL"]), forever=True) as told:
        announce = child.announce

        def announce_and_begin(descriptor: int | None, **said: str) -> None:
            told.begin()
            announce(descriptor, **said)

        child.announce = announce_and_begin
        master_main.main()
