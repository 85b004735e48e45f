"""Clients of the page, good and bad ones: bytes over a socket, and what comes back."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from faults.result import Broken, must


@dataclass(frozen=True)
class Answer:
    """One answer, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """What the body says, as JSON."""
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Of a fault; "" for what is none, or none of the server's own."""
        if self.status < 400 or "json" not in self.headers.get("content-type", ""):
            return ""
        return str(self.value["error"]["reason"])


@dataclass(frozen=True)
class Expected:
    """Statuses that one answer may have; like : name of the recording whose answer it must equal."""

    statuses: frozenset[int]
    like: str = ""


@dataclass(frozen=True)
class Request:
    """What a client does, and what may come of it.

    sent : pieces, with `pause_seconds` after each; nothing more is sent once the server has said something.
    expected : the answers, in order.
    may_close : the server may close the connection in place of an answer.
    must_close : after the answers, if any, it must.
    patience_seconds : within which all this must happen.
    ending : of the client's own sending: "" leaves it open, "half" says that nothing more comes, "reset" hangs up.
    unread_seconds, unread_bytes : it reads nothing for so long, and then so many bytes must not come any more.
    head_only : answers have no body.
    reasons : what the answers' faults may be called; any, if none is named.
    """

    sent: Sequence[bytes]
    expected: Sequence[Expected] = ()
    may_close: bool = False
    must_close: bool = False
    pause_seconds: float = 0.0
    patience_seconds: float = 0.0
    ending: str = ""
    unread_seconds: float = 0.0
    unread_bytes: int = 0
    head_only: bool = False
    reasons: frozenset[str] = frozenset()


def ask(port: int, request: Request, patience_seconds: float) -> list[Answer]:
    """The answers.

    patience_seconds : where the request says nothing else

    Raises
    ------
    Broken
        None within the time, none where one was expected, or one without end.
    """
    seconds = request.patience_seconds or patience_seconds
    with socket.socket() as one:
        if request.unread_seconds:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(seconds)
        try:
            one.connect(("127.0.0.1", port))
            _send(one, request, time.monotonic() + seconds)
            if request.ending == "reset":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return []
            with one.makefile("rb") as reader:
                if not request.unread_seconds:
                    return _answers(reader, request)
                _unread(reader, request)
                return []
        except TimeoutError:
            raise Broken(f"neither answered nor closed within {seconds:g} s") from None


def _send(one: socket.socket, request: Request, deadline: float) -> None:
    try:
        for piece in request.sent:
            one.sendall(piece)
            if request.pause_seconds:
                if select.select([one], [], [], request.pause_seconds)[0]:
                    return
                must(time.monotonic() < deadline, "it was let drip for longer than its limit")
        if request.ending == "half":
            one.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        return  # refused before all was sent; what it said may still be there


def _answers(reader: IO[bytes], request: Request) -> list[Answer]:
    found: list[Answer] = []
    try:
        for _ in request.expected:
            answer = read_answer(reader, request.head_only)
            if answer is None:
                break
            found.append(answer)
        else:
            if request.must_close:
                must(not reader.read(1), "more came than was asked for")
    except ConnectionResetError:
        pass
    must(request.may_close or len(found) == len(request.expected), f"closed after {len(found)} answers")
    return found


def _unread(reader: IO[bytes], request: Request) -> None:
    """The server has not waited for it: what is left is what the kernel had taken."""
    time.sleep(request.unread_seconds)
    count = 0
    try:
        while block := reader.read(1 << 16):
            count += len(block)
    except ConnectionResetError:
        pass
    must(count < request.unread_bytes, f"all {count} bytes were still there after {request.unread_seconds:g} s")


def read_answer(reader: IO[bytes], head_only: bool = False) -> Answer | None:
    """The next one, or None where the server has closed the connection.

    Raises
    ------
    Broken
        It is no HTTP, or is cut off.
    """
    while True:
        line = reader.readline(1000)
        if not line:
            return None
        words = line.split(b" ", 2)
        must(words[0] == b"HTTP/1.1" and len(words) > 1 and words[1].isdigit(), f"no HTTP: {line[:80]!r}")
        headers = {}
        while (field_line := reader.readline(10_000).strip()) != b"":
            name, _, value = field_line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if int(words[1]) >= 200:  # not 100 Continue
            break
    if head_only or int(words[1]) == 304:
        return Answer(int(words[1]), headers, b"")
    size = headers.get("content-length")
    body = reader.read() if size is None else reader.read(int(size))
    must(size is None or len(body) == int(size), f"an answer was cut off after {len(body)} of {size} bytes")
    return Answer(int(words[1]), headers, body)
