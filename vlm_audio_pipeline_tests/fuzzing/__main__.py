"""Fuzz the readers: `python -m vlm_audio_pipeline_tests.fuzzing --seconds 60 [--target NAME] [--seed S] [--guided]`.

The seconds are shared among the targets. Every failing input is shortened and saved in `found/TARGET/`, one per place that
fails. `--guided` uses atheris (pip install atheris), which prefers inputs that reach new lines of the package.
"""

import argparse
import logging
import subprocess
import sys
import time

from vlm_audio_pipeline_tests.fuzzing.runner import Fuzzer
from vlm_audio_pipeline_tests.fuzzing.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vlm_audio_pipeline_tests.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="time for all targets together, s")
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be given several times; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="guided by coverage, with atheris")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # damaged results are reported as warnings
    names = arguments.target or list(TARGETS)
    code = 0
    for name in names:
        seconds = arguments.seconds / len(names)
        if arguments.guided:  # libFuzzer ends its process
            command = [sys.executable, "-m", "vlm_audio_pipeline_tests.fuzzing.guided", name]
            code |= subprocess.run([*command, str(int(seconds) or 1), str(arguments.seed)], check=False).returncode
            continue
        fuzzer = Fuzzer(name, arguments.seed)
        start = time.monotonic()
        fuzzer.run(seconds)
        sys.stdout.write(f"{name}: {fuzzer.summary(time.monotonic() - start)}\n")
        sys.stdout.flush()
        code |= bool(fuzzer.failures)
    return code


if __name__ == "__main__":
    sys.exit(main())
