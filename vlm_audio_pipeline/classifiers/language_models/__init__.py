"""Language models as classifiers: a model gets an image or the audio of a clip and is asked which class it is.

Belongs here: prompts, examples, requests, backends, and how responses become predictions. Does not belong here: images
(`renderings`), vectors (`encoders`), measures (`measures`, `evaluation`).
"""
