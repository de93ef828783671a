"""Study files: reading, checking, expanding and describing them.

Does not belong here: running studies.
"""
