"""Exports in the formats of other tools: Hugging Face datasets, Inspect, lmms-eval, and experiment trackers.

One file for each format. No file needs the package that reads its format. Rows are read, converted and written a few at a time.
"""
