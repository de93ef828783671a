"""The backend `openai`: language models behind an OpenAI-compatible endpoint or Anthropic's, and the cost of requests to them.

Belongs here: the connection, the wire format, the number of concurrent requests, prices. Does not belong here: prompts and
parsing, which all backends share, and the ledger (`storage.ledger`).
"""
