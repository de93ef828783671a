"""Classifiers: all components that predict a class for each clip. Each kind is one file, registered in `CLASSIFIERS`.

Belongs here: how a class is predicted, with a score for every class. Does not belong here: measures (`measures`, `evaluation`).
"""
