"""The backend `openai`: language models behind an OpenAI-compatible chat endpoint, and what requests to them cost.

Belongs here: the connection, the wire format, the number of concurrent requests, prices. Does not belong here: prompts and
parsing, which all backends share, and the ledger (`storage.ledger`).
"""
