"""Empty tasks on Ray: COUNT of them on WORKERS cores."""

import sys
import time

import ray


@ray.remote
def nothing(number: int) -> None:
    return None


count, workers = int(sys.argv[1]), int(sys.argv[2])
ray.init(num_cpus=workers, include_dashboard=False, logging_level="ERROR")
ray.get([nothing.remote(n) for n in range(200)])
began_s = time.perf_counter()
ray.get([nothing.remote(n) for n in range(count)])
print(f"Ray {ray.__version__}: {count / (time.perf_counter() - began_s):,.0f} tasks/s")
