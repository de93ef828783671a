"""Language models of transformers on this machine: pictures and sounds, prefixes computed once, all labels in one pass.

What belongs here: loading, turning messages into tokens, sharing what consecutive requests have in common. What does not:
wording (`prompts`), endpoints (`api`), reading answers.
"""
