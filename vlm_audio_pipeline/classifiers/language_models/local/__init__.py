"""Language models of transformers that run on this machine; shared prefixes are computed once, all labels in one pass.

Belongs here: loading, conversion of messages to tokens, shared prefixes. Does not belong here: prompt wordings
(`prompts`), endpoints (`endpoint`), parsing of responses (`parsing`).
"""
