"""Measures of multi-label predictions as functions of arrays: scores and truths, clips by classes.

Belongs here: formulas and their intervals. Does not belong here: tables and subsets of clips (`tasks.multi_label.metrics`).
"""
