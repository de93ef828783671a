"""Clip -> picture: time-frequency transforms, recipes, controls.

What belongs here: everything between samples and pixels. What does not: models that look at the pixels.
"""
