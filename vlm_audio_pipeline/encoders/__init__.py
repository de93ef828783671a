"""Encoders: clip or image -> vector. One file per family, registered in `ENCODERS` by kind.

Belongs here: spec, card and computation of each family. Does not belong here: the use of the vectors (`classifiers`).
"""
