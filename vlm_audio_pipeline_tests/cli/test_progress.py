"""Progress without a terminal: lines on stderr."""

import re
import time

from vlm_audio_pipeline.cli.progress import progress_bars
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline_tests.cli.program import STEPS, run_command


def test_a_run_without_a_terminal_prints_a_line_for_each_step(bench):
    lines = run_command(bench, "run").err.splitlines()
    steps = [line for line in lines if re.fullmatch(r"\[\d+/\d+\] \S+: \d+\.\d s", line)]
    assert steps == lines
    results, maps = steps[:-1], steps[-1]
    assert len(results) == STEPS
    assert results[0].startswith("[1/") and results[-1].startswith(f"[{STEPS}/{STEPS}] ")
    assert maps.startswith("[1/1] projections/bands: ")


def test_a_long_step_that_reports_nothing_still_prints_a_line_per_interval(capsys):
    with progress_bars(line_interval_s=0.05) as display:
        display.on_step(Node("embeddings/clap", 1), started=True)
        time.sleep(0.13)  # two intervals and a half
        display.progress(3, 10, "vector")
        time.sleep(0.06)
    lines = capsys.readouterr().err.splitlines()
    # On a busy machine there are more lines.
    assert lines[:2] == ["embeddings/clap|1: 0 s so far"] * 2
    assert set(lines[2:-1]) <= {lines[0], lines[-1]}
    assert lines[-1] == "embeddings/clap|1: vector: 3 of 10, 0 s so far"


def test_the_lines_stop_after_the_work(capsys):
    with progress_bars("download", line_interval_s=0.02):
        pass
    capsys.readouterr()
    time.sleep(0.06)
    assert capsys.readouterr().err == ""
