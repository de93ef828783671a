"""The Python API: the functions and classes that `import vlm_audio_pipeline as vap` offers.

Belongs here: thin functions over the other folders, and objects that show themselves in a notebook. Does not belong here:
the work itself, and anything that only the command needs. The package's `__init__.py` lists the public names.
"""
