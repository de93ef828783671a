"""Packages that cannot live beside ours: an environment of their own, and a process in it that answers requests.

What belongs here: making such an environment with pip, and talking to a worker through lines and files. What does not:
what the worker computes. A worker imports nothing of this package, and this package imports nothing of its environment.
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
from filelock import FileLock

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.storage.layout import Layout


@dataclass(frozen=True)
class Environment:
    """An environment of pinned packages, in the data folder.

    Attributes:
        name: its folder under `environments/`.
        requirements: what pip installs, with versions.
        alone: what it installs after that without its own dependencies.
        before: the first Python that is too new for it, as (3, 13).
    """

    name: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()
    before: tuple[int, int] = (4, 0)

    def folder(self, layout: Layout) -> Path:
        """Give its folder."""
        return layout.environments / self.name

    def python(self, layout: Layout) -> Path:
        """Give its Python."""
        return self.folder(layout) / "bin" / "python"

    def is_whole(self, layout: Layout) -> bool:
        """Say whether it was made to the end, of what is wanted now."""
        try:
            recorded = (self.folder(layout) / "made_of.txt").read_text()
        except OSError:
            return False
        return recorded == self._made_of() and self.python(layout).exists()

    def make(self, layout: Layout, progress: Progress = silent) -> Path:
        """Make it, unless it is whole.

        Args:
            layout: the data folder.
            progress: told before each step.

        Returns:
            Its Python.

        Raises:
            NotAvailable: when there is no fitting Python, or pip cannot install something; with pip's own words.
        """
        folder, lock = self.folder(layout), layout.lock(f"environments/{self.name}")
        python, what = self.python(layout), f"environment of {self.name}"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if self.is_whole(layout):
                return python
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            steps = [[self._interpreter(), "-m", "venv", str(folder)], [*pip, *self.requirements]]
            if self.alone:
                steps.append([*pip, "--no-deps", *self.alone])
            for done, command in enumerate(steps):
                progress(done, len(steps), what)
                ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
                if ended.returncode:
                    said = "\n".join((ended.stderr or ended.stdout).strip().splitlines()[-8:])
                    raise NotAvailable(
                        f"the {what} must be installable, got from {' '.join(command[1:4])}:\n{said}\nmend that "
                        "(network, disk space, an index with these versions) and run `vlm-audio fetch` again"
                    )
            progress(len(steps), len(steps), what)
            (folder / "made_of.txt").write_text(self._made_of())  # last: what is not whole has none
        return python

    def _made_of(self) -> str:
        return "\n".join((*self.requirements, *self.alone, ""))

    def _interpreter(self) -> str:
        if sys.version_info[:2] < self.before:
            return sys.executable
        names = [f"python3.{minor}" for minor in range(self.before[1] - 1, 10, -1)]
        if found := next(filter(None, map(shutil.which, names)), None):
            return found
        raise NotAvailable(
            f"the environment of {self.name} must have a Python before {self.before[0]}.{self.before[1]}, got "
            f"{sys.version.split()[0]} only; install {names[0]}"
        )


class Worker:
    """A process that turns clips and texts into vectors; it ends when nobody holds it any more.

    Args:
        name: of the environment, for messages.
        command: what to run; it is sent one JSON a line, and answers with one.
        settings: sent first; the answer is kept in `told`.
    """

    def __init__(self, name: str, command: Sequence[str], settings: Mapping[str, Any]):
        self._name = name
        self._folder = tempfile.TemporaryDirectory(prefix="vlm-audio-")
        self._at = Path(self._folder.name)
        with (self._at / "stderr").open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
            )
        self._end = weakref.finalize(self, _ended, self._process, self._folder)
        self.told = self._ask(dict(settings))

    def clips(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Give the vectors of clips, (clips, dimensions) float32; clips are (samples,) float32."""
        np.savez(self._at / "clips.npz", *clips)
        return self._vectors({"clips": str(self._at / "clips.npz")}, len(clips))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Give the vectors of texts, (texts, dimensions) float32."""
        return self._vectors({"texts": list(texts)}, len(texts))

    def close(self) -> None:
        """End the process."""
        self._end()

    def _vectors(self, request: dict[str, Any], count: int) -> np.ndarray:
        self._ask({**request, "vectors": str(self._at / "vectors.npy")})
        found = np.load(self._at / "vectors.npy", allow_pickle=False)
        if found.ndim != 2 or len(found) != count:
            raise VlmAudioError(
                f"the worker of {self._name} must give {count} vectors, got an array of shape {found.shape}"
            )
        return found

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):  # it ended: its last words are told below
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            said = (self._at / "stderr").read_text(errors="replace").strip().splitlines()[-3:]
            raise VlmAudioError(
                f"the worker of {self._name} must answer, but it ended with {self._process.returncode}: "
                f"{' '.join(said) or 'no word'}; if its environment is damaged, delete environments/{self._name} in the "
                "data folder and run `vlm-audio fetch` again"
            )
        answer = json.loads(line)
        return answer if isinstance(answer, dict) else {}


def _ended(process: subprocess.Popen, folder: tempfile.TemporaryDirectory) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # it is gone already
                stream.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    folder.cleanup()
