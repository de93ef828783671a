"""Where clips come from: ESC-10, ESC-50, a csv, a folder, synthetic sounds; decoding and resampling.

What belongs here: listing, checking and reading recordings. What does not: anything computed from samples.
One file a dataset, with its spec and card; `DATASETS` in `base.py` knows them by kind.
"""
