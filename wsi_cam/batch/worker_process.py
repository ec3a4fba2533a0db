"""The parent's end of a worker process: orders in, messages out, and how it died.

Plain ``subprocess``: the same on every system, nothing asked of the caller's main module, and allowed in the
daemonic processes of a cluster, which may have no children of multiprocessing's kind.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import IO, Any

from wsi_cam import errors
from wsi_cam.batch.task import BatchSetup
from wsi_cam.errors import WsiCamError
from wsi_cam.result_identity import ModelFacts

#: The worker looks for modules where its parent does, and never in the folder that it is started in.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from wsi_cam.batch import worker_main; worker_main.main()"
)
_NOISE_BYTES = 2**16
#: How long a process may take to end once it has been killed or has closed its pipe.
_DYING_S = 10.0


class WorkerDied(Exception):
    """A worker process ended without being asked to. ``how`` is in words."""

    def __init__(self, how: str, killed: bool, noise: str) -> None:
        super().__init__(how)
        self.how = how
        self.killed = killed
        """Whether the system ended it (SIGKILL), as it does when memory runs out."""
        self.noise = noise
        """The end of what the process and its libraries printed, the place of the crash included."""


class WorkerStartError(WsiCamError, RuntimeError):
    """No worker process can be started."""


class WorkerProcess:
    """One process that works on slides, one at a time; started when this is made.

    :meth:`receive` gives messages (their kinds are in ``worker_main``) and relays what it logs.
    """

    def __init__(self, setup: BatchSetup, folder: str | None = None) -> None:
        """``folder`` is where relative paths of the settings begin; the present one where None."""
        noise, self._noise_path = tempfile.mkstemp(prefix="wsi_cam-worker-")
        os.close(noise)
        self._noise = open(self._noise_path, "rb")  # noqa: SIM115
        # Appending, so that the worker can empty the file before each slide.
        noise = os.open(self._noise_path, os.O_WRONLY | os.O_APPEND)
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                cwd=folder,
            )
        except OSError as error:
            raise WorkerStartError(f"{sys.executable}: cannot be started ({error.strerror})") from error
        finally:
            os.close(noise)
            with suppress(OSError):  # Windows keeps open files
                os.unlink(self._noise_path)
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.heard = time.monotonic()
        """When it last said something."""
        self._facts: ModelFacts | None = None
        assert self._process.stdout is not None
        listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        listener.start()
        names = ("", "wsi_cam")
        levels = {name: logging.getLogger(name or None).getEffectiveLevel() for name in names}
        self.send("setup", setup=setup.as_dict(), levels=levels)

    @property
    def facts(self) -> ModelFacts | None:
        """What it loaded; None until it said so."""
        return self._facts

    def send(self, order: str, **content: Any) -> None:
        """Give an order; to a dead process it goes unheard."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps({"do": order, **content}).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message, or None where none came in time.

        Raises WorkerDied, and the WsiCamError that keeps a worker from starting at all.
        """
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message is None:
            raise self._death()
        self.heard = time.monotonic()
        if message["say"] == "log":
            logging.getLogger(message["name"]).log(message["level"], "%s", message["text"])
        elif message["say"] == "ready":
            plain = message["model"]
            self._facts = ModelFacts(**{**plain, "class_names": tuple(plain["class_names"])})
        elif message["say"] == "fatal":
            raise _fatal(message["kind"], message["error"])
        return message

    def kill(self) -> str:
        """End it at once; gives what it printed, and where its threads were if that can be had."""
        if hasattr(signal, "SIGUSR1") and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)  # the worker writes its tracebacks
            time.sleep(0.3)
        self._end_now()
        noise = self._read_noise()
        self.close()
        return noise

    def close(self, patience_s: float = 5.0) -> None:
        """Let it end; kill it where it does not. Calling it again does nothing."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()  # the worker ends when its orders do
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._end_now()
        self._noise.close()
        with suppress(OSError):
            os.unlink(self._noise_path)

    def _end_now(self) -> None:
        """Kill it. One that waits for a drive that does not answer cannot be killed; it is left behind."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_DYING_S)

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with suppress(ValueError):  # the last words of a process that died while it spoke
                    self._messages.put(json.loads(line))
        self._messages.put(None)

    def _death(self) -> WorkerDied:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_DYING_S)
        if self._process.poll() is None:
            self._end_now()  # it lives, and has closed its end of the pipe
        code, noise = self._process.poll(), self._read_noise()
        self.close()
        if code is None or code >= 0:
            return WorkerDied(f"exit status {code}", False, noise)
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return WorkerDied(name, name == "SIGKILL", noise)

    def _read_noise(self) -> str:
        if self._noise.closed:
            return ""
        size = self._noise.seek(0, os.SEEK_END)
        self._noise.seek(max(0, size - _NOISE_BYTES))
        return self._noise.read().decode("utf-8", "backslashreplace")


def _fatal(kind: str, text: str) -> WsiCamError:
    """The error by which a worker could not start, as the parent would have met it."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, WsiCamError):
        return known(text)
    return WorkerStartError(f"the worker process cannot start: {text}; --in-process shows where")
