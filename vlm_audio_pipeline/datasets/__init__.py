"""Datasets: listing clips, checking recordings, decoding and resampling.

One file per dataset, with its spec and card; `DATASETS` in `base.py` maps kinds to them.
Does not belong here: anything that is computed from samples.
"""
