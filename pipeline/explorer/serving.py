"""Serves the explorer on this computer until it is interrupted."""

import asyncio
import logging
import socket
from collections.abc import Callable

import pyarrow as pa
import uvicorn

from pipeline.explorer.app import Explorer, Extend
from pipeline.settings import Settings


def _not_cancelled(record: logging.LogRecord) -> bool:
    """What is cancelled at the end is no error to show."""
    return not (record.exc_info and record.exc_info[0] is asyncio.CancelledError)


def serve(
    settings: Settings, port: int, extend: Extend | None, ready: Callable[[str], None]
) -> None:
    """Serve until interrupted.

    Args:
        settings: Data root and file of marks.
        port: 0: any free one.
        extend: See ``Explorer``.
        ready: Told the address once it can be opened.

    Raises:
        OSError: The port is taken.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what it has freed

    application = Explorer(settings, extend).app()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        ready(f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=3,  # seconds: a browser may never finish a request
        )
        logging.getLogger("uvicorn.error").addFilter(_not_cancelled)  # configured just above
        uvicorn.Server(config).run(sockets=[listener])
