"""The examples in docstrings give the results that they show."""

import doctest
import importlib
from pathlib import Path

import vlm_audio_pipeline

ROOT = Path(vlm_audio_pipeline.__file__).parents[1]
MODULES = [
    path
    for folder in ("vlm_audio_pipeline", "demo_model_training")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "\n    >>> " in path.read_text(encoding="utf-8")
]


def test_every_example_gives_the_result_that_it_shows():
    """Failures are collected, so that one run lists all of them."""
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            runner.run(example, out=failures.append)
    assert runner.summarize(verbose=False).attempted > 30
    assert not failures, "\n".join(failures)
