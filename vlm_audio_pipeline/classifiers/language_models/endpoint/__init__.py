"""The `openai` backend: language models behind an OpenAI-compatible chat endpoint, and what asking them costs.

What belongs here: the connection a study file describes, the wire format, pacing, and prices. What does not: wording and
parsing (shared by all backends), and the ledger, which is storage.
"""
