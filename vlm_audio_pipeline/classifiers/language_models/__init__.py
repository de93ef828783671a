"""Language models as classifiers: a model gets the image or the audio of a clip and is asked for its class.

Belongs here: prompts, examples, requests, backends, and how responses become predictions. Does not belong here: images
(`renderings`), vectors (`encoders`), measures (`measures`, `evaluation`).
"""
