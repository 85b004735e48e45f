"""A page on this machine that recognises recordings and shows the last evaluation and the experiments.

    python -m app.page [--model FOLDER] [--host ADDRESS] [--port N] [--no-browser]

Nobody but this machine can reach it, unless --allow-network is given with the address to listen on. Uploads are never
kept. Ctrl+C ends it.

Status: 0 ended; 2 wrong usage; 74 no model that can be used; 75 the port is taken.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app.recognizer import check_model, default_model, usable_cores
from stages.pipeline.errors import LockedError, ParamsError, PipelineError, StorageError
from stages.pipeline.loopback import is_loopback

PORT = 8765


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="page: %(message)s", level=logging.WARNING)
    # Workers die with this process (they watch it), but an orderly end lets answers under way be given.
    signal.signal(signal.SIGTERM, _leave)
    try:
        _serve(options)
    except PipelineError as error:
        print(f"page: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, ParamsError | LockedError) else StorageError.exit_code
    except KeyboardInterrupt:
        pass
    return 0


def _serve(options: argparse.Namespace) -> None:
    try:
        import uvicorn

        from app.page.guard import protocol
        from app.page.limits import Limits
        from app.page.server import application
    except ImportError as error:
        raise ParamsError(
            f"the page needs a package that is not installed ({error.name}): run `make setup` in the repository, or "
            "`pip install '.[serve]'`"
        ) from None
    from app.page.workers import Workers

    host: str = options.host
    if not is_loopback(host) and not options.allow_network:
        raise ParamsError(
            f"--host {host} would let other machines reach this page, which asks nobody for a password; leave it out "
            "to listen on 127.0.0.1, or add --allow-network if that is what you want"
        )
    tempfile.gettempdir()  # found now and for good: it is found by writing, which fails once the disk is full
    limits = Limits(upload_bytes=round(options.max_megabytes * 1e6), work_seconds=options.max_seconds)
    folder: Path = options.model or default_model()
    check_model(folder)
    listening = _listen(host, options.port)
    port: int = listening.getsockname()[1]
    workers = Workers(folder, min(2, usable_cores()), limits.work_seconds)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            workers.close()  # first, so that whoever waits for them is answered
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application(workers, host, port, limits),
        http=protocol(limits),
        ws="none",
        lifespan="off",
        proxy_headers=False,
        log_level="error",  # what a client sends that is no HTTP would fill the terminal
        access_log=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
    )
    listening.listen(1024)  # from here on, who comes early waits instead of being turned away
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    print(f"{url}  (Ctrl+C ends it)", flush=True)
    if not options.no_browser:
        threading.Timer(0.5, webbrowser.open, [url]).start()
    try:
        Server(config).run(sockets=[listening])
    finally:
        workers.close()
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    """Bound, so that a taken port is told before a model is loaded."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
    except OSError as error:
        raise ParamsError(f"--host: expected an address of this machine, received {host!r}: {error}") from None
    listening = socket.socket(family, kind)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        if isinstance(error, PermissionError) or "assign" in str(error):
            raise ParamsError(f"cannot listen on {host} port {port}: {error.strerror}") from None
        raise LockedError(
            f"port {port} of {host} is taken ({error.strerror}): the page may be open already; end that one, or name "
            "another with --port (0: any that is free)"
        ) from None
    return listening


def _leave(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise ValueError
    return number


_positive.__name__ = "number above 0"  # argparse tells it: "invalid number above 0 value: '0'"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.page",
        description="Open a page on this machine that recognises recordings and shows evaluation and experiments.",
        epilog="exit status: 0 ended, 2 wrong usage, 74 no model, 75 the port is taken.",
    )
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="exported or trained model, as for app.predict")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port ({PORT}); 0: any that is free")
    parser.add_argument("--allow-network", action="store_true", help="let --host be one that others can reach")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    parser.add_argument("--max-megabytes", type=_positive, default=64, metavar="MB", help="size of one recording (64)")
    parser.add_argument(
        "--max-seconds", type=_positive, default=60, metavar="S", help="time that one recording may take (60)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
