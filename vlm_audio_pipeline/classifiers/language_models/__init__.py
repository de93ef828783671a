"""Language models that are shown a picture of a sound, or the sound, and asked which class it is.

What belongs here: messages and prompts, choosing examples, asking (local models and endpoints), reading answers. What does
not: pictures (`renderings`), vectors (`encoders`), counting (`evaluation`).
"""
