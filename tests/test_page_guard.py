"""The time limits of the page's connections, short ones, over real sockets: what they end and what they must not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.page.guard import protocol
from app.page.limits import Limits

SHORT = Limits(head_seconds=0.4, flush_seconds=0.4)
FEW = Limits(connections=8)
WORK_SECONDS = 1.2  # of one request: longer than a client may take over its head, or over an answer
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def works_a_while(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(WORK_SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def answers_without_end(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (1 << 40))]})
    while True:
        await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        await asyncio.sleep(0)  # nothing waits once the client has gone


@contextlib.contextmanager
def listening(app: Any, limits: Limits = SHORT) -> Iterator[tuple[int, uvicorn.Server]]:
    """A server in a thread, and its port."""
    config = uvicorn.Config(app, http=protocol(limits), ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as place:
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            yield place.getsockname()[1], server
        finally:
            server.should_exit = server.force_exit = True
            thread.join(20)


def connect(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port))
    one.settimeout(30)
    return one


def answered(one: socket.socket) -> bool:
    """Whether the next answer came whole."""
    taken = b""
    while not taken.endswith(b"\r\n\r\nok") and (more := one.recv(1000)):
        taken += more
    return taken.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("pipelined", [False, True])
def test_each_request_of_a_connection_has_its_own_time(pipelined: bool) -> None:
    """Not what was left of the time to take the answer before it."""
    with listening(works_a_while) as (port, _), connect(port) as one:
        for _ in range(3):
            one.sendall(GET if not pipelined else GET * 3)
            for _ in range(3 if pipelined else 1):
                assert answered(one)


def test_who_does_not_take_an_answer_is_ended() -> None:
    """In the middle of it, too: it need not be complete."""
    with listening(answers_without_end) as (port, server), connect(port) as one:
        one.sendall(GET)
        while not server.server_state.connections:
            time.sleep(0.01)
        deadline = time.monotonic() + 15
        while server.server_state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_who_takes_an_answer_slowly_gets_it() -> None:
    with listening(answers_without_end) as (port, _), connect(port) as one:
        one.sendall(GET)
        taken, end = 0, time.monotonic() + 4 * SHORT.flush_seconds
        while time.monotonic() < end:
            taken += len(one.recv(1 << 20))
        assert taken > 1 << 20
        assert one.recv(1)


def test_a_head_that_never_ends_is_ended() -> None:
    """However it drips, and after an answer on the same connection, too."""
    with listening(works_a_while) as (port, _), connect(port) as one:
        one.sendall(GET)
        assert answered(one)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            while True:
                one.sendall(b"G")
                time.sleep(0.05)


def test_no_more_connections_are_held_than_are_let_in() -> None:
    with listening(works_a_while, FEW) as (port, server), contextlib.ExitStack() as opened:
        ones = [opened.enter_context(connect(port)) for _ in range(3 * FEW.connections)]
        for one in ones[FEW.connections :]:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
        assert len(server.server_state.connections) == FEW.connections
