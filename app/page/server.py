"""The page's routes: three pages, their files, and the few questions that their scripts ask.

An upload is the body of a POST, as it is; no form, so nothing is parsed. It goes into a file without a name (O_TMPFILE)
that ends with the request, whatever happens to the server: nothing is ever left.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from anyio import CapacityLimiter, to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.page.evaluation import PICTURES, clip_as_wav, read_evaluation
from app.page.experiments import COMMITS, Experiments
from app.page.guard import Guard, refuse
from app.page.limits import Limits
from app.page.words import status_for, words_for
from app.page.workers import WorkerFault, Workers
from stages.pipeline.errors import PipelineError, RejectedClip

_HERE = Path(__file__).parent


class Page:
    """What the routes share."""

    def __init__(self, workers: Workers, limits: Limits) -> None:
        self._workers, self._limits = workers, limits
        self._languages: tuple[str, ...] = tuple(workers.hello["languages"])
        self._slots = asyncio.Semaphore(limits.uploads)
        self._waiting = 0
        self._experiments = Experiments()
        self._one_at_a_time = CapacityLimiter(1)  # who waits for DVC must not hold the threads that others need
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", self.recognise_page),
            Route("/api/recognise", self.recognise, methods=["POST"]),
            Route("/api/explain", self.explain, methods=["POST"]),
            Route("/evaluation", self.evaluation_page),
            Route("/api/clips/{clip}", self.clip),
            Route("/api/pictures/{name}", self.picture),
            Route("/experiments", self.experiments_page),
            Route("/api/experiments", self.experiments),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ]

    def _html(self, template: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(template).render(values))

    async def recognise_page(self, request: Request) -> Response:
        return self._html(
            "recognise.html",
            here="recognise",
            languages=sorted(self._languages),
            model=self._workers.hello["model"],
            limits=self._limits,
        )

    async def recognise(self, request: Request) -> Response:
        return await self._ask(request, "recognise")

    async def explain(self, request: Request) -> Response:
        return await self._ask(request, "explain")

    async def evaluation_page(self, request: Request) -> Response:
        found, fault = None, ""
        try:
            found = await run_in_threadpool(read_evaluation)
        except PipelineError as error:
            fault = str(error)
        return self._html("evaluation.html", here="evaluation", found=found, fault=fault)

    async def clip(self, request: Request) -> Response:
        try:
            return Response(await run_in_threadpool(clip_as_wav, request.path_params["clip"]), media_type="audio/wav")
        except RejectedClip as fault:
            return refuse(request.scope, 404, fault.reason, "This clip cannot be played:", f"{fault.detail}.")
        except PipelineError as error:
            return refuse(request.scope, 500, "unreadable", "This clip cannot be played:", str(error))

    async def picture(self, request: Request) -> Response:
        path = PICTURES.get(request.path_params["name"])
        if path is None or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, media_type="image/png")

    async def experiments_page(self, request: Request) -> Response:
        return self._html("experiments.html", here="experiments", commits=COMMITS)

    async def experiments(self, request: Request) -> Response:
        try:
            return JSONResponse(await to_thread.run_sync(self._experiments.read, limiter=self._one_at_a_time))
        except PipelineError as error:
            return refuse(request.scope, 500, "dvc", "The experiments cannot be listed:", f"{error}.")

    async def _ask(self, request: Request, task: str) -> Response:
        """Receive a recording, let a worker at it, forget it."""
        try:
            languages = self._chosen(request)
            all_sound = request.query_params.get("all_sound") == "1"
            async with self._slot():
                with tempfile.TemporaryFile(buffering=0) as upload:
                    await self._receive(request, upload)
                    question = {
                        "task": task,
                        "path": _path_of(upload),
                        "languages": languages,
                        "all_sound": all_sound,
                    }
                    # shielded: while a worker reads the file, it must stay open, even if the visitor has gone
                    answer = asyncio.wrap_future(self._workers.submit(question))
                    try:
                        return JSONResponse(await asyncio.shield(answer))
                    finally:
                        await asyncio.wait([answer])
                        answer.exception()  # known now, even where nobody waits for it any more
        except WorkerFault as fault:
            message, cure = words_for(fault.reason)
            response = refuse(request.scope, status_for(fault.reason), fault.reason, message, cure)
            if fault.reason == "busy":
                response.headers["retry-after"] = "5"
            return response
        except ClientDisconnect:
            return Response(status_code=400)

    def _chosen(self, request: Request) -> list[str]:
        text = request.query_params.get("languages", "")
        chosen = text.split(",") if text else []
        if not set(chosen) <= set(self._languages):
            raise WorkerFault("unknown_language")
        return chosen

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the few uploads at a time; the others wait with their bodies unread."""
        if self._waiting >= self._limits.waiting:
            raise WorkerFault("busy")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _receive(self, request: Request, upload: IO[bytes]) -> None:
        """Raises WorkerFault: too_large, too_slow, empty_file or no_space; ClientDisconnect."""
        limit, size = self._limits.upload_bytes, 0
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise WorkerFault("too_large")
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                async for block in request.stream():
                    size += len(block)
                    if size > limit:
                        raise WorkerFault("too_large")
                    upload.write(block)
        except TimeoutError:
            raise WorkerFault("too_slow") from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise WorkerFault("no_space") from None
            raise
        if not size:
            raise WorkerFault("empty_file")


def _path_of(upload: IO[bytes]) -> str:
    """By which another process of ours can open a file without a name."""
    return f"/proc/{os.getpid()}/fd/{upload.fileno()}"


def application(workers: Workers, host: str, port: int, limits: Limits) -> Guard:
    """The ASGI application for a server that listens on host and port."""
    page = Page(workers, limits)

    async def fault(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            message = {404: "There is no such page.", 405: "That is not how this is asked for."}.get(
                error.status_code, error.detail
            )
            return refuse(request.scope, error.status_code, "not_found", message)
        return refuse(request.scope, 500, "internal", *words_for("internal"))

    routes = Starlette(routes=page.routes(), exception_handlers={HTTPException: fault, Exception: fault})
    return Guard(routes, host, port, limits)
