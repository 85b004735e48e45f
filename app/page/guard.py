"""Who may ask: the checks that every request goes through, and what keeps slow clients from holding the server.

A page on another site can make a visitor's browser send requests to 127.0.0.1. Three things stop it: the Host header
must name this server (DNS rebinding sends the other site's name), a browser's Origin must be this server's, and the
answers carry headers that keep other sites from embedding them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.page.limits import Limits
from stages.pipeline.loopback import is_loopback

_SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}


def allowed_host(header: str, host: str, port: int) -> bool:
    """Whether a Host header names the server that listens on `host`.

    On loopback, that is localhost or a loopback address. Opened to the network, any address will do as well, as no
    other site's name is one, and so will the machine's own name.
    """
    if not set("/?#@").isdisjoint(header):
        return False
    try:
        parts = urlsplit(f"//{header}")
        name, asked = (parts.hostname or "").lower(), parts.port or 80
    except ValueError:
        return False
    if asked != port:
        return False
    if is_loopback(host):
        return is_loopback(name)
    if name in {host.lower(), "localhost", socket.gethostname().lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware: Host, Origin, one time limit for the whole request, and the headers of every answer."""

    def __init__(self, app: ASGIApp, host: str, port: int, limits: Limits) -> None:
        self.app, self._host, self._port, self._limits = app, host, port, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if refusal := self._refusal(scope):
            await refusal(scope, receive, send_guarded)
            return
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                await self.app(scope, receive, send_guarded)
        except TimeoutError:
            if not begun:
                await refuse(scope, 408, "too_slow", "The request took too long and was ended.")(
                    scope, receive, send_guarded
                )

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not allowed_host(host, self._host, self._port):
            return refuse(scope, 421, "wrong_host", "This server does not answer to that name.")
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return refuse(scope, 403, "wrong_origin", "This server answers its own page only.")
        # A link from elsewhere may open the page; nothing else may be asked for from there.
        elsewhere = headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
        if elsewhere and headers.get("sec-fetch-mode") != "navigate":
            return refuse(scope, 403, "wrong_origin", "This server answers its own page only.")
        return None


def refuse(scope: Scope, status: int, reason: str, message: str, cure: str = "") -> Response:
    """A fault as the page's scripts take it, or as one line where a person asked."""
    if scope["path"].startswith("/api/"):
        error = {"reason": reason, "message": message, "cure": cure}
        return JSONResponse({"error": error}, status)
    return PlainTextResponse(f"{message} {cure}".strip() + "\n", status)


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with the time limits that it lacks.

    uvicorn ends idle connections between requests; it waits without end for the rest of a head, and for a client that
    does not take its answer, and it accepts any number of connections.
    """

    limits: Limits
    _limit: asyncio.TimerHandle | None = None
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()  # before there is no file descriptor left for those who are being answered
            return
        self._set_limit(self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit:
            self._limit.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.transport.is_closing():
            return
        in_head = self.conn.their_state is h11.IDLE
        if self.cycle is not before:
            self._begin_request()
        elif in_head and not self._in_head:
            self._set_limit(self.limits.head_seconds)
        self._in_head = in_head

    def on_response_complete(self) -> None:
        self._set_limit(self.limits.flush_seconds)
        self._in_head = False
        before = self.cycle
        super().on_response_complete()
        if self.cycle is not before:  # the next request was there already
            self._begin_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_limit(self.limits.flush_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.cycle.response_complete:
            self._begin_request()

    def _begin_request(self) -> None:
        """Give it its own time, unless an answer before it must be taken first."""
        if not self.flow.write_paused:
            self._set_limit(self.limits.request_seconds + self.limits.flush_seconds)

    def _set_limit(self, seconds: float) -> None:
        if self._limit:
            self._limit.cancel()
        self._limit = self.loop.call_later(seconds, self.transport.abort)


def protocol(limits: Limits) -> Any:
    """What uvicorn takes as `http`: makes a protocol for each connection."""
    return type("LimitedProtocol", (PatientProtocol,), {"limits": limits})
