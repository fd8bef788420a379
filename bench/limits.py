"""What the machine gives at best, beside which figures are read: one value a line, medians of `--rounds`.

- starting a Python that does nothing; a bare Python loop over the lines of a file, alone and in two processes at once
- `bytes.find` over a mapping of the same file
- copying memory; writing a file of 256 MiB and syncing it; reading it back from the page cache
- bytes through loopback: by `sendfile` into a receiving loop, and by `ssl` in slices of 1 MiB

    python bench/limits.py TEXT [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import mmap
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Process
from pathlib import Path

NEEDLE = "warnings.warn"
MEMORY_BYTES = 256 << 20
DISK_BYTES = 256 << 20
LINK_BYTES = 512 << 20
SLICE_BYTES = 1 << 20
MB = 1e6


def measure(text: Path, rounds: int) -> dict[str, float]:
    """Each limit by its name, with the unit in the name."""
    size = text.stat().st_size / MB
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        content = folder / "content"
        certificate = _certificate(folder)
        found = {"python -c pass, ms": _median_s(start_python, rounds) * 1e3}
        found["bare loop over lines, MB/s"] = size / _median_s(lambda: loop_over_lines(text), rounds)
        both = _median_s(lambda: loop_in_two_processes(text), rounds)
        found["the same in two processes, MB/s"] = 2 * size / both
        found["bytes.find over a mapping, MB/s"] = size / _median_s(lambda: find_in_mapping(text), rounds)
        found["memory copy, MB/s"] = MEMORY_BYTES / MB / _median_s(copy_memory(), rounds)
        found["disk write and sync, MB/s"] = DISK_BYTES / MB / _median_s(lambda: write_and_sync(content), rounds)
        found["page cache read, MB/s"] = DISK_BYTES / MB / _median_s(lambda: read_all(content), rounds)
        found["sendfile over loopback, MB/s"] = LINK_BYTES / MB / _median_s(lambda: send(content, None), rounds)
        found["ssl over loopback, MB/s"] = LINK_BYTES / MB / _median_s(lambda: send(content, certificate), rounds)
    return found


def _median_s(act: Callable[[], object], rounds: int) -> float:
    act()
    took = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        act()
        took.append(time.perf_counter() - began_s)
    return statistics.median(took)


def start_python() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def loop_over_lines(text: Path) -> int:
    """The Python loop that a map over lines cannot be faster than."""
    found = 0
    with text.open(encoding="utf-8") as lines:
        for line in lines:
            if NEEDLE in line:
                found += 1
    return found


def loop_in_two_processes(text: Path) -> None:
    processes = [Process(target=loop_over_lines, args=(text,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def find_in_mapping(text: Path) -> int:
    needle = NEEDLE.encode()
    found = at = 0
    with text.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (at := content.find(needle, at)) >= 0:
            found += 1
            at = content.find(b"\n", at)
            if at < 0:
                break
    return found


def copy_memory() -> Callable[[], None]:
    source, target = bytearray(os.urandom(1 << 20) * (MEMORY_BYTES >> 20)), bytearray(MEMORY_BYTES)

    def copy() -> None:
        target[:] = source

    return copy


def write_and_sync(path: Path) -> None:
    piece = os.urandom(SLICE_BYTES)
    with path.open("wb") as out:
        for _ in range(DISK_BYTES // SLICE_BYTES):
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())


def read_all(path: Path) -> None:
    buffer = bytearray(SLICE_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def send(path: Path, certificate: Path | None) -> None:
    """LINK_BYTES of the file through a socket of this machine, as fast as two loops go."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        receiver = Process(target=_receive, args=(door.getsockname(), certificate))
        receiver.start()
        link, _ = door.accept()
        with link, path.open("rb") as file:
            if certificate is None:
                for _ in range(LINK_BYTES // DISK_BYTES):
                    sent = 0
                    while sent < DISK_BYTES:
                        sent += os.sendfile(link.fileno(), file.fileno(), sent, DISK_BYTES - sent)
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate)
                with context.wrap_socket(link, server_side=True) as sealed:
                    for _ in range(LINK_BYTES // DISK_BYTES):
                        file.seek(0)
                        while piece := file.read(SLICE_BYTES):
                            sealed.sendall(piece)
        receiver.join()


def _receive(address: tuple[str, int], certificate: Path | None) -> None:
    link = socket.create_connection(address)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificate)
        context.check_hostname = False
        link = context.wrap_socket(link)
    buffer = bytearray(SLICE_BYTES)
    received = 0
    with link:
        while received < LINK_BYTES and (count := link.recv_into(buffer)):
            received += count


def _certificate(folder: Path) -> Path:
    """A key and its own certificate, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "limits")])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now.replace(year=now.year + 1)
    )
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(private + pem)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.text, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<36} {value:>10,.1f}")


if __name__ == "__main__":
    main()
