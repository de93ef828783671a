"""Works for tests of the Ray engine: they log what they do in a file, and some end their process.

As a program, the module maps numbers on a cluster: ADDRESS STORE LOG COUNT.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.file_copies import readable_path
from vlm_audio_pipeline.contracts.progress import no_progress
from vlm_audio_pipeline.contracts.work import Failure, Rows
from vlm_audio_pipeline.engines.ray_worker import Worker
from vlm_audio_pipeline.storage.result_store import ResultStore


@dataclass(frozen=True)
class LoggedWork:
    """Computes `<n>` for a number n; logs each load and each number."""

    log: str
    seconds: float = 0.0
    fatal: int | None = None
    missing: bool = False
    uses_gpu = False
    max_parallel = None

    @property
    def key(self):
        return repr(self)

    def files_of(self, item):
        return ()

    def prepare(self, item):
        return item

    def open(self):
        self.write("load")
        if self.missing:
            raise NotAvailable("weights of x are missing on this node")
        return self.compute

    def compute(self, batch):
        if self.fatal in batch:
            os._exit(1)
        time.sleep(self.seconds)
        for item in batch:
            self.write(f"row {item}")
        return [Failure("odd one out") if item == 1000 else b"<%d>" % item for item in batch]

    def write(self, text):
        file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # each line is written at once
        os.write(file, f"{os.getpid()} {text}\n".encode())
        os.close(file)


class FileWork:
    """Returns the path that a file is read from, and its content."""

    key = "files"
    uses_gpu = False
    max_parallel = None

    def files_of(self, item):
        return (item,)

    def prepare(self, item):
        path = readable_path(item)
        return f"{path} {path.read_text()}".encode()

    def open(self):
        return lambda batch: batch


class DeadWorker:
    """A worker whose environment is broken."""

    def __init__(self, uses_gpu):
        os._exit(1)

    def node_id(self):
        return ""


def first_worker(log: Path):
    """Return a class of workers of which only the first one can start; each writes a line when it starts."""

    class FirstWorker(Worker):
        def __init__(self, uses_gpu):
            file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, b"start\n")
            try:
                os.mkdir(f"{log}.folder")  # only one process can
            except FileExistsError:
                os._exit(1)
            super().__init__(uses_gpu)

    return FirstWorker


class UnreadableWork(LoggedWork):
    """A work of a package that only the driver has."""

    def __init__(self):
        super().__init__("")

    def __reduce__(self):
        return import_plugin, (os.getpid(),)


def import_plugin(driver: int):
    if os.getpid() != driver:
        raise ModuleNotFoundError("no module 'my_plugin'")
    return UnreadableWork()


def raise_not_available():
    raise NotAvailable("no weights here")


def rows(work, numbers, batch_size=2):
    return Rows([f"k{n}" for n in numbers], list(numbers), work, kind="test", batch_size=batch_size)


def lines(log: Path, kind: str) -> list[list[str]]:
    text = log.read_text() if log.exists() else ""
    return [line.split() for line in text.splitlines() if line.split()[1] == kind]


if __name__ == "__main__":
    from vlm_audio_pipeline.engines.ray import RayEngine

    address, store, log, count = sys.argv[1:]
    engine = RayEngine(address)
    engine.map_rows([rows(LoggedWork(log, 0.2), range(int(count)))], ResultStore(Path(store)), no_progress)
    engine.close()
