"""Evaluate vision-language models on spectrograms of sounds.

A study file lists a dataset, models, renderings and baselines; the pipeline evaluates all of them on the same clips and
folds and recomputes only what changed. ARCHITECTURE.md describes the folders of this package.
"""

__version__ = "0.1.0"
