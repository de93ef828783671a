"""Classifiers of the task `multi_label`: embedding -> a score and a decision for each class. One file per kind."""
