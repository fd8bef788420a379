"""Empty tasks on Dask: COUNT of them on WORKERS processes of one thread."""

import sys
import time

import distributed


def nothing(number: int) -> None:
    return None


if __name__ == "__main__":
    count, workers = int(sys.argv[1]), int(sys.argv[2])
    cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        client.gather(client.map(nothing, range(200), pure=False))
        began_s = time.perf_counter()
        client.gather(client.map(nothing, range(count), pure=False))
        print(f"Dask {distributed.__version__}: {count / (time.perf_counter() - began_s):,.0f} tasks/s")
