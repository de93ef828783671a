"""The same study has the same data versions on any number of cores."""

import json
import os
import subprocess
import sys

import pytest

from vlm_audio_pipeline_tests.planning.model_study import expected_nodes, model_study_graph


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot limit the cores of a process")
def test_one_core_and_two_cores_give_equal_data_versions(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip(f"needs two cores, and this process may use only {cores}")
    # The number of threads follows the cores, as for a user.
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    program = "import os, runpy, sys; os.sched_setaffinity(0, json.loads(sys.argv[2])); "
    program = (
        f"import json; {program}runpy.run_module('vlm_audio_pipeline_tests.planning.model_study', run_name='__main__')"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / str(n)), json.dumps(cores[:n])],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in (1, 2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    one, two = map(json.loads, outputs)
    assert one.keys() == expected_nodes(model_study_graph(tmp_path / "graph"))
    assert one == two
