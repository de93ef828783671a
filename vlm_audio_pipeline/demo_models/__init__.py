"""The demo's models: tiny checkpoints in the architectures of Janus, CLAP and AIMv2, trained here on synthetic sounds.

What belongs here: the checkpoints (`demo-janus`, `demo-clap`, `demo-aimv2`: folders as `save_pretrained` writes them),
how they were built and trained, and their cards. What does not: loading them, which the code for the hub's models does
(`encoders.weights` knows where they lie). They know the sounds of the `synthetic` dataset and nothing else.
"""
