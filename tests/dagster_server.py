"""A web server of Dagster's on this computer: where it is to listen, and whether it answers."""

import socket
import subprocess
import time
import urllib.request
from pathlib import Path

WAIT = 180.0  # s, to load the project beside busy processes


def free_address() -> tuple[str, int]:
    """Of a port that nobody listens on; and the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}", port


def answering(address: str, server: subprocess.Popen[bytes], log: Path) -> str:
    """The address, as soon as the server answers there."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/server_info", timeout=10):
                return address
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the web server does not answer:\n{log.read_text()[-3000:]}")
