"""Slides on the workers of a Dask cluster: on this machine, or wherever a scheduler has some.

Dask hands out the slides, steals them from busy workers for idle ones and gives those of a dead worker to
another, which goes on from their journals. On each worker :mod:`wsi_cam.batch.cluster_worker` does the work.
Results are written to the output folder by whoever makes them: all workers see it under the same path.
"""

from __future__ import annotations

import json
import logging
import queue
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_cam.batch.task import BatchSetup, Progress, SlideOutcome, SlideTask, Stop
from wsi_cam.batch.under_way import UnderWay
from wsi_cam.errors import Interrupted, OutputError, SettingsError, WsiCamError, one_line
from wsi_cam.result_identity import ModelFacts

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

_CONNECT_S = 20
_TICK_S = 0.2
#: A slide has failed when as many workers have died that were at work on it.
_DEATHS = 2
#: After a second request to stop the workers have so long to say where they stand.
_LAST_WORDS_S = 5.0


class ClusterError(WsiCamError, ConnectionError):
    """The cluster cannot be used, or no longer."""


class ClusterEngine:
    """An :class:`Engine` whose slides run on a Dask cluster.

    ``where`` is ``local:N`` (N workers on this machine, for as long as the batch runs), the address of a
    scheduler (``tcp://host:8786``) or the path of its scheduler file.
    """

    def __init__(self, setup: BatchSetup, where: str) -> None:
        self._setup, self._where = setup, where
        self._batch = f"wsi-cam-{uuid.uuid4().hex}"
        self._inbox: queue.Queue[dict[str, Any] | Future[Any]] = queue.Queue()
        self._client: Client | None = None
        self._closing: list[Any] = []
        self._resources: dict[str, float] = {}
        self._passed_on = 0

    def start(self) -> None:
        """Connect. Raises SettingsError for a cluster that is not there or has another wsi-cam."""
        try:
            import distributed
        except ImportError as error:
            raise SettingsError(
                f"--cluster {self._where}: dask.distributed is not installed; pip install wsi-cam[cluster]"
            ) from error
        self._closing.append(_QuietDask())
        is_local = self._where.partition(":")[0] == "local"
        address = self._local_cluster() if is_local else _scheduler(self._where)
        try:
            self._client = distributed.Client(
                address, timeout=_CONNECT_S, set_as_default=False, name=self._batch
            )
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"--cluster {self._where}: no scheduler answers within {_CONNECT_S} s ({one_line(error)}); "
                "check that it runs and that its port can be reached from here"
            ) from error
        self._closing.append(self._client)
        self._client.subscribe_topic(self._batch, lambda event: self._inbox.put(event[1]))

    def ready(self, stop: Stop) -> ModelFacts:
        """As :meth:`Engine.ready`: waits for a worker, for as long as a queue of jobs may take."""
        client, said = self._connected, False
        address = self._where if client.scheduler is None else client.scheduler.address
        while not (workers := list(client.nthreads())):
            if stop.requested:
                raise Interrupted("stopped before a worker joined the cluster")
            if not said:
                log.warning("waiting for a worker to join %s", address)
                said = True
            with suppress(TimeoutError):
                client.wait_for_workers(1, timeout=1)
        self._survey()
        from wsi_cam.batch import cluster_worker

        loading = [
            client.submit(
                cluster_worker.load_model, *self._common, workers=[worker], pure=False,
                resources=self._resources, key=f"{self._batch}-load-{n}",
            )
            for n, worker in enumerate(workers)
        ]  # fmt: skip
        facts: ModelFacts | None = None
        for future in loading:
            while not future.done():
                with suppress(TimeoutError):
                    future.result(timeout=_TICK_S)
                self._pass_on(stop)
            plain = self._result(future)
            future.release()
            facts = facts or ModelFacts(**{**plain, "class_names": tuple(plain["class_names"])})
        assert facts is not None
        return facts

    def run(
        self, tasks: Iterable[SlideTask], progress: Progress, stop: Stop
    ) -> Iterator[tuple[SlideTask, SlideOutcome]]:
        """As :meth:`Engine.run`; outcomes come in the order in which slides end."""
        self._check_folder()
        source, under_way = iter(tasks), UnderWay(progress)
        while True:
            while not stop.requested and len(under_way.tasks) < self._places():
                task = next(source, None)
                if task is None:
                    break
                under_way.tasks[self._submit(task)] = task
            if not under_way.tasks:
                break
            try:
                message = self._inbox.get(timeout=_LAST_WORDS_S if stop.forced else _TICK_S)
            except queue.Empty:
                if stop.forced and self._passed_on > 1:
                    raise Interrupted("stopped at once; the batches under way are lost") from None
            else:
                if isinstance(message, dict) and message["say"] == "started":
                    self._passed_on = 0  # a worker that was started anew has not been asked to stop
                if (ended := under_way.hear(message)) is not None:
                    future, task = ended
                    outcome = self._outcome(future, task, under_way.times_begun[task.number])
                    if outcome is None:
                        under_way.tasks[self._submit(task)] = task
                    else:
                        yield task, outcome
            self._pass_on(stop)
        if stop.requested:
            raise Interrupted("stopped between two slides")

    def close(self) -> None:
        """Let go of the workers' engines, the connection, and the workers where they are ours."""
        from wsi_cam.batch import cluster_worker

        if self._client is not None and self._client.status == "running":
            with suppress(OSError, RuntimeError):
                self._client.run(cluster_worker.forget, self._batch, on_error="ignore")
        self._client = None
        while self._closing:
            with suppress(OSError, RuntimeError):
                self._closing.pop().close()

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError("start() comes first")
        return self._client

    @property
    def _common(self) -> tuple[str, dict[str, Any], dict[str, int]]:
        levels = {"wsi_cam": logging.getLogger("wsi_cam").getEffectiveLevel()}
        return self._batch, self._setup.as_dict(), levels

    def _submit(self, task: SlideTask) -> Future[Any]:
        from wsi_cam.batch import cluster_worker

        future = self._connected.submit(
            cluster_worker.run_slide, *self._common, task.as_dict(), pure=False, resources=self._resources,
            key=f"{self._batch}-slide-{task.number}-{uuid.uuid4().hex[:8]}",
        )  # fmt: skip
        future.add_done_callback(self._inbox.put)
        return future

    def _places(self) -> int:
        """How many slides to give out: none waits beside one that may take its worker down with it.

        Raises ClusterError where the scheduler is gone.
        """
        try:
            threads: int = sum(self._connected.nthreads().values())
        except OSError as error:  # seen here before the slides' futures have heard of it
            raise self._gone(error) from error
        return max(1, threads)

    def _outcome(self, future: Future[Any], task: SlideTask, times_begun: int) -> SlideOutcome | None:
        """What became of a slide; None where its workers died before they had begun with it."""
        from distributed import KilledWorker

        try:
            return SlideOutcome.from_dict(self._result(future))
        except KilledWorker as death:
            if times_begun < _DEATHS:
                return None
            reason = (
                f"{task.path}: the workers that had it died, one after the other ({one_line(death)[:200]})"
            )
            return SlideOutcome("failed", task.row("failed", reason))

    def _result(self, future: Future[Any]) -> dict[str, Any]:
        """What a worker's function gave, or raised; ClusterError where the scheduler is gone."""
        from concurrent.futures import CancelledError

        try:
            result: dict[str, Any] = future.result()
        except CancelledError as error:
            raise self._gone(error) from error
        return result

    def _gone(self, error: BaseException) -> ClusterError:
        return ClusterError(
            f"--cluster {self._where}: the scheduler has gone ({one_line(error)[:200]}); "
            "what is done stays, run the same command again when it is back"
        )

    def _pass_on(self, stop: Stop) -> None:
        """Ask the workers to stop as often as the batch was asked."""
        from wsi_cam.batch import cluster_worker

        if self._passed_on < stop.asked:
            self._passed_on = stop.asked
            self._connected.run(cluster_worker.ask_to_stop, self._batch, stop.asked, on_error="ignore")

    def _survey(self) -> None:
        """See that every worker can do what will be asked of it. Raises SettingsError."""
        from wsi_cam.batch.cluster_survey import differing_versions, has_gpu, versions_here, worker_facts

        facts = self._connected.run(worker_facts(), on_error="return")
        for worker, found in facts.items():
            if isinstance(found, BaseException):
                raise ClusterError(f"--cluster {self._where}: {worker} cannot be asked ({one_line(found)})")
            if differs := differing_versions(versions_here(), found["versions"]):
                raise SettingsError(
                    f"--cluster {self._where}: the worker {worker} has {differs}; "
                    "start workers from the same environment"
                )
        if self._setup.settings.device != "cpu" and all(map(has_gpu, facts.values())):
            self._resources = {"GPU": 1}

    def _check_folder(self) -> None:
        """The output folder must be one folder for all. Raises SettingsError."""
        import os.path

        probe = self._setup.output / f".{self._batch}"
        try:
            probe.touch()
            seen = self._connected.run(os.path.exists, str(probe))
        except OSError as error:
            raise OutputError(f"{probe}: cannot be written ({error.strerror or error})") from error
        finally:
            probe.unlink(missing_ok=True)
        if blind := [worker for worker, sees in seen.items() if not sees]:
            raise SettingsError(
                f"{self._setup.output}: the worker {blind[0]} does not see this folder; workers need "
                "slides, model and output under the same paths, on a drive that all machines share"
            )

    def _local_cluster(self) -> str:
        from wsi_cam.batch.local_cluster import LocalWorkers, worker_count

        cluster = LocalWorkers(worker_count(self._where), self._setup.settings.device)
        self._closing.append(cluster)
        return cluster.start()


class _QuietDask:
    """Keeps what Dask logs from the terminal, unless everything is to be said, until it is closed."""

    def __init__(self) -> None:
        names = [] if log.isEnabledFor(logging.DEBUG) else ["distributed", "distributed.client", "tornado"]
        self._before = {name: logging.getLogger(name).level for name in names}
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def close(self) -> None:
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)


def _scheduler(where: str) -> str:
    """The address of a scheduler, from itself or from the file that the scheduler wrote."""
    if "://" in where:
        return where
    try:
        address: str = json.loads(Path(where).read_text(encoding="utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"--cluster {where}: neither local:N, nor an address such as tcp://host:8786, nor a scheduler "
            f"file ({one_line(error)}); dask scheduler --scheduler-file FILE writes one"
        ) from error
    return address
