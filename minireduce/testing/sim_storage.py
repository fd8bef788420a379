"""Run seeds of the block store: `python -m minireduce.testing.sim_storage --seeds 0:200`.

What a seed does, and what must hold, is in `storage_world`. Printed is how many held and how often each fault struck.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from minireduce.testing.sim import parse_seeds
from minireduce.testing.storage_world import SimStorage
from minireduce.testing.wrong import Wrong


def run_seed(seed: int) -> Counter[str]:
    """Run one seed; how often each fault struck. Raises Wrong."""
    world = SimStorage(seed)
    world.run()
    return world.strikes


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m minireduce.testing.sim_storage")
    parser.add_argument("--seeds", type=parse_seeds, default=range(200), metavar="A:B", help="from A to before B")
    options = parser.parse_args(arguments)
    began, strikes, failed = time.perf_counter(), Counter[str](), 0
    for seed in options.seeds:
        try:
            strikes += run_seed(seed)
        except Wrong as wrong:
            failed += 1
            sys.stdout.write(f"seed {seed} failed: {wrong}\n")
    took_s = time.perf_counter() - began
    sys.stdout.write(
        f"{len(options.seeds)} seeds: {len(options.seeds) - failed} held, {failed} failed, {took_s:.1f} s\n"
    )
    sys.stdout.writelines(f"{fault:<30}{count:>6}\n" for fault, count in sorted(strikes.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
