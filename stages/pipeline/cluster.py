"""Shards made by the workers of a Dask cluster; docs/cluster.md says what machines must share.

distributed's own client is used rather than joblib's backend for it: a task that was lost with its worker, a worker
that is not fit and a scheduler that is gone each get their own answer, and only so many tasks are sent as keep the
workers busy.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import queue
import socket
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from stages.pipeline.errors import ParamsError, PipelineError, StorageError

Task = TypeVar("Task")
Result = TypeVar("Result")
log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60
_IN_FLIGHT = 1024
_LOOK_SECONDS = 1.0
_FETCHES = 50


def run_on_cluster(
    function: Callable[[Task], Result], tasks: Sequence[Task], check: Callable[[], str], address: str
) -> Iterator[Result]:
    """Results of `function(task)` in the order in which they are ready.

    check : run on a worker before each task; says what is wrong with the worker, or nothing.

    Raises
    ------
    ParamsError
        The package distributed is not installed.
    StorageError
        No scheduler, no workers, a worker that is not fit, or one task after another that kills its worker.
    """
    try:
        import distributed
    except ImportError:
        raise ParamsError(
            "execution.backend: dask needs the package distributed: install it with `pip install distributed`, or set "
            "execution.backend: loky"
        ) from None
    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):  # what is wrong is said here, once
            logging.getLogger(name).setLevel(logging.CRITICAL)
    _check_security(address)
    try:
        client: Any = distributed.Client(  # type: ignore[no-untyped-call]
            address, timeout=_CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, TimeoutError, TypeError, ValueError, RuntimeError) as error:
        raise StorageError(
            f"no Dask scheduler answers at execution.scheduler_address {address}: {error or type(error).__name__}. "
            "Start one (docs/cluster.md), or set execution.backend: loky"
        ) from None
    try:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except TimeoutError:
            raise StorageError(
                f"the scheduler at {address} has had no workers for {_WORKERS_SECONDS} s; start some (docs/cluster.md)"
            ) from None
        log.info("cluster at %s, %d workers now", address, len(client.scheduler_info(n_workers=-1)["workers"]))
        yield from _results(client, function, tasks, check, address)
    finally:
        _close(client)


def _check_security(address: str) -> None:
    """Refuse what distributed would only refuse after it has begun to connect."""
    from distributed.security import Security

    where = "distributed's own settings, distributed.comm.tls (docs/cluster.md)"
    try:
        security: Any = Security()  # type: ignore[no-untyped-call]
        has_certificates = security.get_connection_args("client").get("ssl_context") is not None
    except (OSError, ValueError) as error:
        raise ParamsError(f"the TLS certificates that {where} name cannot be used: {error}") from None
    if address.startswith("tls://") and not has_certificates:
        raise ParamsError(
            f"execution.scheduler_address is {address}, but no certificates are set up: expected ca-file, client.cert "
            f"and client.key in {where}"
        )
    if address.startswith("tcp://") and security.require_encryption:
        raise ParamsError(
            f"execution.scheduler_address is {address}, but distributed.comm.require-encryption is set: expected tls://"
        )


def _results(
    client: Any,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    check: Callable[[], str],
    address: str,
) -> Iterator[Result]:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting: set[Any] = set()

    def send(part: Iterator[Task]) -> None:
        for task in part:
            # As bytes: the scheduler takes tasks apart, and shall not need the project for it.
            payload = pickle.dumps(_Call(check, function, task))
            try:
                future = client.submit(pickle.loads, payload, pure=False)
            except (OSError, RuntimeError):
                raise _lost(address) from None
            waiting.add(future)
            future.add_done_callback(done.put)

    left = iter(tasks)
    send(itertools.islice(left, _IN_FLIGHT))
    while waiting:
        try:
            future = done.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            if client.status != "running":
                raise _lost(address) from None
            continue
        waiting.discard(future)
        yield _result(client, future, address)
        send(itertools.islice(left, 1))


def _result(client: Any, future: Any, address: str) -> Any:
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    error, failures = None, 0
    while True:
        # Besides these there are pending and lost: its worker died with the result, and another one makes it again.
        try:
            if future.status == "finished":
                return future.result(timeout=_LOOK_SECONDS)
            if future.status == "error":
                error = future.exception(timeout=_LOOK_SECONDS)
                break
        except TimeoutError:
            pass
        except (OSError, RuntimeError, CancelledError):
            failures += 1  # on the way to the result
        if future.status == "cancelled" or client.status != "running" or failures > _FETCHES:
            raise _lost(address)
        time.sleep(_LOOK_SECONDS / 10)
    if isinstance(error, KilledWorker):
        raise StorageError(
            f"workers of the cluster died one after another under the same shard, the last one {error.last_worker}: "
            "look into its log; memory may be short (docs/cluster.md). Finished shards are kept"
        ) from None
    if isinstance(error, CommClosedError):
        raise _lost(address) from None
    if isinstance(error, ImportError):
        raise StorageError(
            f"a worker of the cluster cannot import the project ({error}): start the workers in the project's folder, "
            "with PYTHONPATH=. and the same packages; see docs/cluster.md"
        ) from None
    if isinstance(error, (PipelineError, OSError)):
        raise error from None
    raise error


def _lost(address: str) -> StorageError:
    return StorageError(
        f"the connection to the Dask scheduler at {address} was lost. Finished shards are kept; see to the scheduler, "
        "then run `dvc repro` again: it goes on from there"
    )


def _close(client: Any) -> None:
    try:
        client.close(timeout=5)
    except (OSError, TimeoutError, RuntimeError):
        log.debug("the cluster's client did not close", exc_info=True)


@dataclass(frozen=True)
class _Call:
    """Does its work when it is unpickled, which happens on the worker, and is replaced by the result."""

    check: Callable[[], str]
    function: Callable[[Any], Any]
    task: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return _on_worker, (self.check, self.function, self.task)


def _on_worker(check: Callable[[], str], function: Callable[[Task], Result], task: Task) -> Result:
    if fault := check():
        raise StorageError(
            f"the worker {os.getpid()} on {socket.gethostname()} is not fit: {fault}. See docs/cluster.md"
        )
    return function(task)
