"""Fuzz one target guided by coverage, with atheris: `python -m vlm_audio_pipeline_tests.fuzzing.guided TARGET SECONDS SEED`."""

import logging
import random
import sys
import tempfile
from pathlib import Path


def main() -> None:
    import atheris

    name, seconds, seed = sys.argv[1:]
    logging.disable(logging.WARNING)
    with atheris.instrument_imports(include=["vlm_audio_pipeline", "yaml", "csv"]):
        from vlm_audio_pipeline_tests.fuzzing.mutation import mutate
        from vlm_audio_pipeline_tests.fuzzing.runner import Fuzzer

    fuzzer = Fuzzer(name, int(seed))
    seeds, target = tuple(fuzzer.corpus), fuzzer.target

    def own_mutation(data: bytes, max_size: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.5:
            return atheris.Mutate(data, max_size)
        return mutate(bytes(data), seeds, target.words, min(max_size, target.max_bytes), rng)

    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(data)
        options = [
            f"-max_total_time={seconds}",
            f"-seed={int(seed) + 1}",
            f"-max_len={target.max_bytes}",
            "-timeout=60",
        ]
        atheris.Setup(
            [sys.argv[0], *options, "-print_final_stats=1", corpus], fuzzer.try_input, custom_mutator=own_mutation
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
