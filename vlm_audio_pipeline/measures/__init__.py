"""Measures of classifiers. Each is declared once, with its formula, unit, order and displays (`declarations`)."""
