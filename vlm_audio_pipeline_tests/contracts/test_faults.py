"""Points die when they are told to, that time and no other, and are nothing otherwise."""

import os
import subprocess
import sys

import pytest

CODE = """
from vlm_audio_pipeline.contracts import faults
for i in range(4):
    print(i, flush=True)
    faults.point("part")
    faults.point("rows:vector")
"""


@pytest.mark.parametrize(
    "fault, lines",
    [
        (None, 4),
        ("", 4),
        ("part", 1),
        ("part:3", 3),
        ("rows:vector", 1),
        ("rows:vector:2", 2),
        ("rows", 4),
        ("par:1", 4),
    ],
)
def test_a_process_dies_at_its_point(fault, lines):
    environment = {k: v for k, v in os.environ.items() if k != "VLM_AUDIO_FAULT"}
    if fault is not None:
        environment["VLM_AUDIO_FAULT"] = fault
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert done.stdout.count("\n") == lines, done.stderr
    assert done.returncode == (0 if lines == 4 else -9)
