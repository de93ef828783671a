"""Run the `vlm-audio` command in processes that tests kill, forked from one process with all imports done.

Belongs here: components that count their work in a file, and the process that runs them. As a program, the module reads
jobs from its input, one JSON line each, and prints the exit status of the forked process for each job.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMPORTED = (
    *("vlm_audio_pipeline.cli.run_view", "vlm_audio_pipeline.dagster_app.executor"),
    *("scipy.fft", "scipy.signal", "scipy.stats", "scipy.spatial.distance", "pandas", "alembic.command"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "sqlalchemy.dialects.sqlite"),
    *("dagster._core.storage.event_log.sqlite", "dagster._core.storage.runs", "dagster._core.storage.schedules"),
)
TIMEOUT_S = 240  # s; a process that takes longer is killed


class Runner:
    """Run the command repeatedly, each time in a new process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vlm_audio_pipeline_tests.killable"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith(("VLM_AUDIO", "DAGSTER"))},
        )

    def __call__(
        self,
        arguments: Sequence[Any],
        output: Path,
        *,
        fault: str = "",
        after_s: float | None = None,
        log: Path | None = None,
    ) -> int:
        """Run the command to its end.

        Args:
            arguments: arguments of `vlm-audio`.
            output: file for stdout and stderr.
            fault: value of `VLM_AUDIO_FAULT`.
            after_s: time after which the process is killed, s.
            log: file to which each unit of work is written.

        Returns:
            Exit status; -9 for a process that was killed.
        """
        job = {"arguments": [str(a) for a in arguments], "output": str(output), "fault": fault, "after_s": after_s}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({**job, "log": str(log or "")}) + "\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """Stop the process."""
        self.process.communicate()


def log_work(kind: str) -> None:
    if log := os.environ.get("VLM_AUDIO_TEST_WORK"):
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # each line is written at once and survives a kill
        os.write(file, f"{kind}\n".encode())
        os.close(file)


def register() -> None:
    """Register an encoder and a paid classifier of images that count their work."""
    from functools import partial

    import numpy as np

    from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, ClassifierSpec, Needs
    from vlm_audio_pipeline.classifiers.prediction_rows import scored_predictions
    from vlm_audio_pipeline.contracts.hashing import fingerprint
    from vlm_audio_pipeline.contracts.stages import Input, Stage
    from vlm_audio_pipeline.encoders.base import ENCODERS
    from vlm_audio_pipeline.encoders.scripted import Scripted
    from vlm_audio_pipeline.engines import compute_results

    @ENCODERS.register("counted")
    class Counted(Scripted):
        @property
        def max_parallel(self):
            return 1  # one batch is in flight

        def load(self):
            encode = super().load()

            def encode_and_count(clips):
                for _ in clips:
                    log_work("vector")
                time.sleep(0.02)
                return encode(clips)

            return encode_and_count

    @CLASSIFIERS.register("counted_paid")
    class PaidClassifier(ClassifierSpec):
        rendering: str

        def needs(self):
            return Needs(rendering=self.rendering)

        def stages(self, name, folds, encoders=None):
            run = partial(compute_responses, self)
            inputs = (Input("clips"), Input("spectrograms", self.rendering))
            return [
                Stage(
                    "predictions",
                    ("predictions",),
                    1,
                    self.fingerprint_fields(),
                    inputs,
                    run,
                    "Sends requests to an endpoint.",
                    paid=True,
                )
            ]

    def compute_responses(spec, context):
        images = context.inputs[f"spectrograms/{spec.rendering}"]["image_sha256"].to_pylist()

        def compute(batch):
            for _ in batch:
                log_work("response")
            time.sleep(0.02)
            return [bytes([int(sha[:6], 16) % len(context.classes)]) for sha in batch]

        keys = [fingerprint("asked", sha) for sha in images]
        responses = compute_results(
            keys, images, compute, context.result_store, kind="response", batch_size=2, max_parallel=1
        )
        scores = np.eye(len(context.classes))[[response[0] for response in responses]]
        return {
            "predictions": scored_predictions(context.inputs["clips"], context.classes, scores, kind="counted_paid")
        }


def count_inspections_and_images() -> None:
    """Count measured recordings and rendered images too."""
    from vlm_audio_pipeline.datasets import inspection
    from vlm_audio_pipeline.renderings import sheet, stage  # noqa: F401  sheet is imported first so that its previews are not counted

    measure, render_clip = inspection.inspect, stage.render_clip
    inspection.inspect = lambda *a: (log_work("inspection"), measure(*a))[1]
    stage.render_clip = lambda *a: (log_work("image"), render_clip(*a))[1]


def _child(job: dict[str, Any]) -> None:
    from vlm_audio_pipeline.cli import main as cli
    from vlm_audio_pipeline.contracts import faults

    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["VLM_AUDIO_TEST_WORK"] = job["log"]
    name, _, count = job["fault"].rpartition(":")
    faults._POINT, faults._COUNT = (name, count) if count.isdigit() else (job["fault"], "1")
    sys.argv = ["vlm-audio", *job["arguments"]]
    code: Any = 1
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def main() -> None:
    """Serve jobs until the input ends."""
    register()
    count_inspections_and_images()
    for name in IMPORTED:  # once here and not in every process: imports take half of a short run
        importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(job)
        deadline = time.monotonic() + (job["after_s"] if job["after_s"] is not None else TIMEOUT_S)
        while (wait_result := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                wait_result = os.waitpid(child, 0)
                break
            time.sleep(0.002)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(wait_result[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
