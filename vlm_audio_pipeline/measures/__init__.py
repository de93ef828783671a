"""Measures of classifiers: each is declared once, with its formula, unit, order and where it is shown (`catalogue`)."""
