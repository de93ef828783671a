"""Batch APIs: requests that an endpoint answers within a day for half the price.

Belongs here: the protocols of OpenAI and Anthropic, the backend that submits batches and collects their responses, and the
files of offline batches. Does not belong here: the record of what was submitted (`storage.batch_log`).
"""
