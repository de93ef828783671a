"""The commands of `vlm-audio`, a file for each thing a person wants.

What belongs here: arguments, and a call of the room that does the work. What does not: that work.
"""
