"""The `vlm-audio` command: its arguments, and the code that prints tables and progress and asks questions.

Belongs here: one file for each group of commands, and terminal output. Does not belong here: the work itself.
"""
