"""Independent calls on several processes of this machine, or on the workers of a Dask cluster.

Every call has one thread, so that what it returns does not depend on where, and beside how many others, it ran.
"""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from vitforge_hw import arch

from .models.timm_import import import_timm
from .threads import one_thread

PATIENCE = 10  #: seconds that a scheduler has to answer, and to have a worker


class Pool:
    """Calls ``function(shared, item)``, in this process, one after the other."""

    count = 1  #: calls at the same time

    def __init__(self, shared: Any):
        self.shared = shared

    def map(self, function: Callable, items: Sequence) -> Iterator:
        """The results in the order of ``items``, each as soon as it is there. ``function`` is a module's own."""
        for item in items:
            yield _alone(function, self.shared, item)


class _Processes(Pool):
    def __init__(self, executor: ProcessPoolExecutor, count: int):
        self.executor, self.count = executor, count

    def map(self, function, items):
        with _uninterrupted():  # children start here, and would print a traceback of their imports
            futures = [self.executor.submit(_sent, function, None, item) for item in items]
        try:
            yield from (future.result() for future in futures)
        except BrokenProcessPool:
            raise ValueError(
                f"one of {self.count} processes was killed (each needs as much memory as the command by itself); what "
                "was done is kept: run it again, with fewer processes"
            ) from None


class _Hosts(Pool):
    def __init__(self, client: Any, shared: Any, count: int):
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        self.client, self.count, self.lost = client, count, (FutureCancelledError, KilledWorker, CommClosedError)
        self.sent = client.scatter(pickle.dumps(shared), broadcast=True)

    def map(self, function, items):
        futures = [self.client.submit(_sent, function, self.sent, item, pure=False) for item in items]
        try:
            yield from (future.result() for future in futures)
        except self.lost:
            raise ValueError(
                "scheduler: the Dask cluster lost its workers or its scheduler; what was done is kept: run it again"
            ) from None


def _alone(function: Callable, shared: Any, item: Any) -> Any:
    with one_thread():
        return function(shared, item)


_first: bytes | None = None  #: in a process of a pool: what all its calls take first, pickled


def _share(sent: bytes) -> None:
    global _first
    _first = sent
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Children that ^C does not reach must not outlive a pool whose own process was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Children that start inside ignore ^C, which goes to the whole group: the pool's own process ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@functools.lru_cache(maxsize=1)
def _opened(sent: bytes) -> Any:
    import_timm()  # the classes of models, which it must be the first to import
    return pickle.loads(sent)  # made by this pool's own process


def _sent(function: Callable, sent: bytes | None, item: Any) -> Any:
    return _alone(function, _opened(_first if sent is None else sent), item)


def _code() -> str:
    """What results depend on beside the calls: the source files of quantizer and arithmetic, and PyTorch."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(arch.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return f"sources {digest.hexdigest()[:12]}, torch {torch.__version__}"


@contextlib.contextmanager
def pool(shared: Any, processes: int = 1, scheduler: str | None = None) -> Iterator[Pool]:
    """A pool of ``processes``, or of the Dask workers at ``scheduler`` (HOST:PORT); ``shared`` is sent to each once.

    Raises ValueError where no scheduler answers or it has no workers, and where those have other sources, another
    PyTorch, or several threads; from ``map`` where processes or workers are lost.
    """
    if scheduler is not None:
        with _client(scheduler) as client:
            yield _Hosts(client, shared, len(client.scheduler_info(n_workers=-1)["workers"]))
    elif processes == 1:
        yield Pool(shared)
    else:
        context = multiprocessing.get_context("spawn")  # a fork would inherit PyTorch's threads as they stand
        executor = ProcessPoolExecutor(processes, context, _share, (pickle.dumps(shared),))
        try:
            yield _Processes(executor, processes)
        except BaseException:  # an interrupt, a call's error: what still runs is for nobody
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("scheduler: Dask is not installed: pip install 'vitforge[hosts]'") from None
    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        text = f"scheduler: no Dask scheduler answers at {scheduler} (HOST:PORT) within {PATIENCE} s: {error}"
        raise ValueError(text) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise ValueError(f"scheduler: {scheduler} must have workers (dask worker {scheduler})") from None
        for worker, info in client.scheduler_info(n_workers=-1)["workers"].items():
            if info["nthreads"] != 1:  # PyTorch's number of threads is one for a whole process
                raise ValueError(f"scheduler: worker {worker} must have --nthreads 1, not {info['nthreads']}")
        for worker, code in client.run(_code).items():
            if code != _code():
                raise ValueError(f"scheduler: worker {worker} must have {_code()}, as here, not {code}")
        yield client
