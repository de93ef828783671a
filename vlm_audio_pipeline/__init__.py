"""VLM Audio Pipeline shows whether a vision-language model can hear what it sees.

Give it a study file, and it sets every model, rendering and baseline on the same clips and folds, with honest
statistics, recomputing only what changed. ARCHITECTURE.md shows the rooms of this package.
"""

__version__ = "0.1.0"
