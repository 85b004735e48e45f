"""Processes that decode and recognise, apart from the server: a file that hangs or crashes one costs only itself.

A worker loads the model once. It is given a path and answers with JSON; one that takes too long is killed, one that
died is replaced, and the server goes on either way.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import queue
import resource
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stages.pipeline.errors import PipelineError, RejectedClip
from stages.pipeline.lock import guard_worker

_START_SECONDS = 120.0  # TensorFlow on a busy machine
_MEMORY_BYTES = 6 << 30  # of address space; TensorFlow reserves far more than it uses


class WorkerFault(Exception):  # noqa: N818 - the outcome of one upload
    """A recording that could not be worked on; reason as in RejectedClip, or timeout, crashed, ending or internal."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, folder, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self.hello: dict[str, Any] = {}

    def wait_until_ready(self) -> None:
        """Raises PipelineError where the model cannot be used."""
        if not self.hello:
            answer = self._answer(_START_SECONDS)
            if "fault" in answer:
                raise PipelineError(str(answer["fault"]))
            self.hello = answer

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        try:
            self._connection.send_bytes(json.dumps(question).encode())
        except OSError:
            raise WorkerFault("crashed") from None
        return self._answer(seconds)

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            if not self._connection.poll(seconds):
                raise WorkerFault("timeout", f"not done after {seconds:g} s")
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise WorkerFault("crashed") from None
        return answer

    def kill(self) -> None:
        """A thread that waits for its answer gets EOFError."""
        self._process.kill()
        self._process.join()

    def end(self) -> None:
        self.kill()
        self._connection.close()


class Workers:
    """A fixed number of them. Threads wait for the answers, so the server's loop never does.

    Parameters
    ----------
    folder : the model's
    count : processes
    seconds : that one recording may take

    Raises
    ------
    PipelineError
        The model cannot be loaded.
    """

    def __init__(self, folder: Path, count: int, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(count, "worker")
        self._closed = False
        self._all = [_Worker(folder) for _ in range(count)]
        try:
            for worker in self._all:
                worker.wait_until_ready()
                self._free.put(worker)
        except WorkerFault as fault:
            self.close()
            raise PipelineError(f"a worker process did not start: {fault.reason} {fault.detail}") from None
        except PipelineError:
            self.close()
            raise
        self.hello = self._all[0].hello

    def submit(self, question: dict[str, Any]) -> Any:
        """A future of the answer; it, or this, raises WorkerFault."""
        if self._closed:
            raise WorkerFault("ending")
        return self._threads.submit(self._ask, question)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        worker = self._free.get()
        try:
            if self._closed:
                raise WorkerFault("ending")
            worker.wait_until_ready()
            answer = worker.ask(question, self._seconds)
        except (WorkerFault, PipelineError) as fault:
            if self._closed:
                raise WorkerFault("ending") from None
            worker.end()
            self._all.remove(worker)
            worker = _Worker(self._folder)
            self._all.append(worker)
            if isinstance(fault, WorkerFault):
                raise
            raise WorkerFault("internal", str(fault)) from None
        finally:
            self._free.put(worker)
        if error := answer.get("error"):
            raise WorkerFault(error["reason"], error["detail"])
        return answer

    def close(self) -> None:
        """End them at once, whatever they are at."""
        self._closed = True
        for worker in self._all:
            worker.kill()
        self._threads.shutdown(wait=False)


def _work(connection: Connection, folder: Path, parent: int) -> None:
    """A worker's life: load the model, say so, answer until the pipe closes."""
    guard_worker(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the server ends its workers
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _quieten_decoders()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

    def say(answer: dict[str, Any]) -> None:
        connection.send_bytes(json.dumps(answer).encode())

    try:
        from app.onnx_model import ONNX_NAME
        from app.page.listen import Listener

        if sys.platform == "linux" and (folder / ONNX_NAME).is_file():
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        listener = Listener(folder)
        say({"languages": list(listener.languages), "model": str(folder)})
    except PipelineError as error:
        say({"fault": str(error)})
        return
    tasks: dict[str, Callable[..., dict[str, Any]]] = {"recognise": listener.recognise, "explain": listener.explain}
    while True:
        try:
            question = json.loads(connection.recv_bytes())
        except EOFError:
            return
        say(_attempt(tasks[question.pop("task")], question))


def _quieten_decoders() -> None:
    """What C libraries say of each damaged frame would fill the terminal; what Python says still goes there."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _attempt(task: Callable[..., dict[str, Any]], question: dict[str, Any]) -> dict[str, Any]:
    try:
        return task(**question)
    except RejectedClip as fault:
        return {"error": {"reason": fault.reason, "detail": fault.detail}}
    except MemoryError:
        return {"error": {"reason": "too_large", "detail": "it needs more memory than a worker may use"}}
    except Exception:  # whatever it was, this upload's visitor is told and the next one is served
        logging.getLogger(__name__).exception("a recording could not be worked on")
        return {"error": {"reason": "internal", "detail": ""}}
