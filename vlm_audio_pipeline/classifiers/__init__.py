"""Classifiers: whatever predicts a label for a clip. Each kind is one file and registers itself in `CLASSIFIERS`.

Belongs here: how a label, and a score of every class, is predicted. Does not belong here: measures (`measures`, `evaluation`).
"""
