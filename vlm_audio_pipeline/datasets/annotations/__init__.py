"""Annotation formats: files that say which sounds occur when in which recording -> events and labelled clips.

One file per format, with its reader; `formats.py` finds them. Belongs here: what a file says. Does not belong here: which recording
on disk a name means (`recording_names.py`), and segments (`segments.py`).
"""
