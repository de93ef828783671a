"""A kill point kills the process at the requested call only; without a request it does nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vlm_audio_pipeline
from vlm_audio_pipeline_tests import test_faults
from vlm_audio_pipeline_tests.classifiers.language_models import test_batches_killed

CODE = """
from vlm_audio_pipeline.contracts import faults
for i in range(4):
    print(i, flush=True)
    faults.kill_point("partition_file")
    faults.kill_point("results:vector")
"""


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        (None, 4),
        ("", 4),
        ("partition_file", 1),
        ("partition_file:3", 3),
        ("results:vector", 1),
        ("results:vector:2", 2),
        ("results", 4),
        ("partition:1", 4),
    ],
)
def test_a_process_is_killed_at_the_requested_kill_point(fault, lines):
    environment = {k: v for k, v in os.environ.items() if k != "VLM_AUDIO_FAULT"}
    if fault is not None:
        environment["VLM_AUDIO_FAULT"] = fault
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert done.stdout.count("\n") == lines, done.stderr
    assert done.returncode == (0 if lines == 4 else -9)


def test_a_test_kills_a_process_at_every_kill_point():
    sources = Path(vlm_audio_pipeline.__file__).parent.rglob("*.py")
    # The name up to a variable part: "results:" of `kill_point(f"results:{kind}")`.
    names = {name for path in sources for name in re.findall(r'kill_point\(f?"([^"{]+)', path.read_text())}
    assert len(names) == 11
    points = [*test_faults.POINTS, *test_batches_killed.POINTS, test_faults.DOWNLOAD_POINT]
    assert [name for name in sorted(names) if not any(point.startswith(name) for point in points)] == []
