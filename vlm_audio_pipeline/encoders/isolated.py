"""Run packages that conflict with the dependencies of this project: in an isolated environment, in a worker process.

A worker imports nothing of this package, and this package imports nothing of the environment. They exchange JSON
lines and files of arrays.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock


@dataclass(frozen=True)
class Environment:
    """An environment of pinned packages in the data folder.

    Attributes:
        name: its folder under `environments/`.
        requirements: packages with versions.
        without_dependencies: packages that are installed afterwards with `--no-deps`.
        first_unsupported_python: the first Python version that is too new, as (3, 13).
    """

    name: str
    requirements: tuple[str, ...]
    without_dependencies: tuple[str, ...] = ()
    first_unsupported_python: tuple[int, int] = (4, 0)

    def folder(self, data_folder: DataFolder) -> Path:
        """Return the folder of the environment."""
        return data_folder.environments / self.name

    def python(self, data_folder: DataFolder) -> Path:
        """Return its Python interpreter."""
        return self.folder(data_folder) / "bin" / "python"

    def is_complete(self, data_folder: DataFolder) -> bool:
        """Return whether it is complete and has the current requirements."""
        try:
            content = (self.folder(data_folder) / "made_of.txt").read_text()
        except OSError:
            return False
        return content == self._requirements_text() and self.python(data_folder).exists()

    def create(self, data_folder: DataFolder, progress: Progress = no_progress) -> Path:
        """Create the environment, unless it is complete.

        Args:
            data_folder: the data folder.
            progress: called before each step.

        Returns:
            Its Python interpreter.

        Raises:
            NotAvailable: if there is no suitable Python, or pip fails; contains the output of pip.
        """
        folder, lock = self.folder(data_folder), data_folder.lock(f"environments/{self.name}")
        python, title = self.python(data_folder), f"environment of {self.name}"
        with file_lock(lock):
            if self.is_complete(data_folder):
                return python
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            steps = [[self._interpreter(), "-m", "venv", str(folder)], [*pip, *self.requirements]]
            if self.without_dependencies:
                steps.append([*pip, "--no-deps", *self.without_dependencies])
            for done, command in enumerate(steps):
                progress(done, len(steps), title)
                process = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
                if process.returncode:
                    output = "\n".join((process.stderr or process.stdout).strip().splitlines()[-8:])
                    raise NotAvailable(
                        f"the {title} cannot be installed; {' '.join(command[1:4])} failed:\n{output}\nfix the cause "
                        "(network, disk space, an index with these versions) and run `vlm-audio fetch` again"
                    )
            progress(len(steps), len(steps), title)
            (folder / "made_of.txt").write_text(
                self._requirements_text()
            )  # written last, so that an incomplete environment does not have this file
        return python

    def _requirements_text(self) -> str:
        return "\n".join((*self.requirements, *self.without_dependencies, ""))

    def _interpreter(self) -> str:
        if sys.version_info[:2] < self.first_unsupported_python:
            return sys.executable
        names = [f"python3.{minor}" for minor in range(self.first_unsupported_python[1] - 1, 10, -1)]
        if interpreter := next(filter(None, map(shutil.which, names)), None):
            return interpreter
        limit = ".".join(map(str, self.first_unsupported_python))
        raise NotAvailable(
            f"the environment of {self.name} needs a Python version below {limit}, got "
            f"only {sys.version.split()[0]}; install {names[0]}"
        )


class IsolatedProcess:
    """A process that computes the vectors of clips and texts; it ends when this object is garbage-collected.

    Args:
        name: name of the environment, for messages.
        command: command of the process. It gets one JSON request per line and writes one JSON reply per line.
        settings: the first request; its reply becomes `properties`.
    """

    def __init__(self, name: str, command: Sequence[str], settings: Mapping[str, Any]):
        self._name = name
        self._folder = tempfile.TemporaryDirectory(prefix="vlm-audio-")
        self._path = Path(self._folder.name)
        with (self._path / "stderr").open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                # One thread, so that a vector has the same last digits on any number of cores.
                env=os.environ
                | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
                | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
            )
        self._end = weakref.finalize(self, _end_process, self._process, self._folder)
        self.properties = self._request(dict(settings))

    def embed_clips(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the vectors of clips, (clips, dimensions) float32; clips are (samples,) float32."""
        np.savez(self._path / "clips.npz", *clips)
        return self._embed({"clips": str(self._path / "clips.npz")}, len(clips))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, (texts, dimensions) float32."""
        return self._embed({"texts": list(texts)}, len(texts))

    def close(self) -> None:
        """End the process."""
        self._end()

    def _embed(self, request: dict[str, Any], count: int) -> np.ndarray:
        self._request({**request, "vectors": str(self._path / "vectors.npy")})
        vectors: np.ndarray = np.load(self._path / "vectors.npy", allow_pickle=False)
        if vectors.ndim != 2 or len(vectors) != count:
            raise VlmAudioError(
                f"the worker of {self._name} returned an array of shape {vectors.shape} instead of {count} vectors"
            )
        return vectors

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):  # the process ended; its stderr is reported below
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            stderr = (self._path / "stderr").read_text(errors="replace").strip().splitlines()[-3:]
            raise VlmAudioError(
                f"the worker of {self._name} ended with exit status {self._process.returncode} before it replied: "
                f"{' '.join(stderr) or 'no output'}; if its environment is damaged, delete environments/{self._name} in the "
                "data folder and run `vlm-audio fetch` again"
            )
        reply = json.loads(line)
        return reply if isinstance(reply, dict) else {}


def _end_process(process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # already closed
                stream.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    folder.cleanup()
