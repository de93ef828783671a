"""Whatever predicts a label for a clip: probe, k-NN, human listeners; one file a family, known to `CLASSIFIERS` by kind.

What belongs here: how a label (and a score for every class) is chosen. What does not: counting how often it is right.
"""
