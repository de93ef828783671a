"""Clip or picture -> vector; one file a family, known to `ENCODERS` by kind.

What belongs here: a family's spec, card and computation. What does not: what vectors are used for.
"""
