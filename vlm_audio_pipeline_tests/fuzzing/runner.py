"""Run mutated inputs of one target and save those that fail."""

import hashlib
import math
import random
import sys
import time
from pathlib import Path

from vlm_audio_pipeline_tests.fuzzing.mutation import mutate, shorten
from vlm_audio_pipeline_tests.fuzzing.targets import TARGETS, execute, signature

FOUND = Path(__file__).with_name("found")
"""A folder for each target, with every input that failed once."""
MAX_CORPUS = 3000


def found_inputs(target: str) -> list[Path]:
    """Return the files with the inputs of a target that failed once."""
    return sorted((FOUND / target).glob("*.bin"))


class Fuzzer:
    """Mutates the seeds of a target. An input that is treated in a new way becomes a seed.

    Args:
        name: name of the target.
        seed: of the random numbers.
        folder: where failing inputs are saved; None: nowhere.
    """

    def __init__(self, name: str, seed: int = 0, folder: Path | None = FOUND):
        self.name, self.target, self.folder = name, TARGETS[name], folder
        self.failures: dict[str, bytes] = {}
        self.executions = 0
        self.slowest_s = 0.0
        self.corpus = [*self.target.seeds(), *(path.read_bytes() for path in found_inputs(name))]
        self._treated: set[str] = set()
        self._rng = random.Random(seed)

    def run(self, seconds: float = math.inf, max_executions: float = math.inf) -> None:
        """Run every seed once, then mutations, until the time (s) is over or the number of executions is reached.

        With a number of executions alone, the inputs are the same on every machine.
        """
        deadline = time.monotonic() + seconds
        for data in list(self.corpus):
            self.try_input(data)
        while time.monotonic() < deadline and self.executions < max_executions:
            data = self._rng.choice(self.corpus)
            self.try_input(mutate(data, self.corpus, self.target.words, self.target.max_bytes, self._rng))

    def try_input(self, data: bytes) -> None:
        """Run one input; shorten and save it if it fails in a new way."""
        self.executions += 1
        start = time.process_time()
        try:
            treated = execute(self.target, data)
        except Exception as error:  # noqa: BLE001
            name = signature(error)
            if name not in self.failures:
                self.failures[name] = data
                self._save(name, f"{type(error).__name__}: {error}"[:300])
        else:
            self.slowest_s = max(self.slowest_s, time.process_time() - start)
            if treated not in self._treated and len(self.corpus) < MAX_CORPUS:
                self._treated.add(treated)
                self.corpus.append(data)

    def _save(self, name: str, message: str) -> None:
        def still_fails(candidate: bytes) -> bool:
            try:
                execute(self.target, candidate)
            except Exception as error:  # noqa: BLE001
                return signature(error) == name
            return False

        data = shorten(self.failures[name], still_fails)
        self.failures[name] = data
        sys.stdout.write(f"{self.name}: {name}: {message}\n  {data[:200]!r}\n")
        sys.stdout.flush()
        if self.folder is not None:
            path = self.folder / self.name / f"{hashlib.sha256(data).hexdigest()[:12]}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def summary(self, seconds: float) -> str:
        """Return the number of executions, of kinds of treatment and of failures."""
        rate = self.executions / max(seconds, 1e-9)
        return (
            f"{self.executions} executions in {seconds:.0f} s ({rate:.0f}/s), {len(self._treated)} kinds of result, "
            f"slowest {self.slowest_s:.2f} s of CPU time, {len(self.failures)} failures"
        )
