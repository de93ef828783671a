"""The study file: what to compare on which clips, checked before anything runs.

What belongs here: reading, checking, expanding and describing study files. What does not: running them.
"""
