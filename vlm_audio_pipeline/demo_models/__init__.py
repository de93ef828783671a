"""The models of the demo: tiny checkpoints in the architectures of Janus, CLAP and AIMv2, with their cards.

They were trained on synthetic sounds by the repository's `demo_model_training`, which is not installed. The code that
loads models of the hub loads them too (`encoders.weights` has their path).
"""
