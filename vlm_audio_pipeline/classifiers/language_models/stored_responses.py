"""The stored form of responses: JSON in the result store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.messages import Reply, Scoring, Usage
from vlm_audio_pipeline.storage.result_store import ResultStore


def read_stored_payloads(
    result_store: ResultStore, keys: Sequence[str], cut_off_keys: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the stored responses of keys, also those that were cut off. Responses that cannot be read count as absent."""
    complete = result_store.get(keys)
    key_of_cut_off = {cut_off_keys[key]: key for key in keys if key in cut_off_keys and key not in complete}
    cut_off = result_store.get(list(key_of_cut_off))
    unreadable = [key for key, payload in {**complete, **cut_off}.items() if not is_readable(payload)]
    result_store.report_unreadable(unreadable)
    payloads = {**complete, **{key_of_cut_off[key]: payload for key, payload in cut_off.items()}}
    unreadable_keys = {key_of_cut_off.get(key, key) for key in unreadable}
    return {key: payload for key, payload in payloads.items() if key not in unreadable_keys}


def is_readable(payload: bytes) -> bool:
    """Return whether a payload is a response; one of an older version of the program has no checksum."""
    try:
        response = json.loads(payload)
        datetime.fromisoformat(response["answered_at"])
        return all(name in response for name in ("outcome", "text", "log_probabilities", "label_tokens", "revision"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def stored_payload(reply: Reply, scoring: Scoring) -> bytes:
    """Return the stored form of a response, JSON."""
    likelihood, generation = scoring == "likelihood", scoring == "generation"
    first = reply.first_tokens if scoring == "first_token" else None
    response = {
        "outcome": "answered" if not generation and reply.outcome == "truncated" else reply.outcome,
        "text": reply.text if generation else None,
        "reasoning": reply.reasoning if generation else None,
        "log_probabilities": reply.log_probabilities if likelihood else None,
        "label_tokens": reply.label_tokens if likelihood else None,
        **({"first_token_probabilities": first.probabilities, "first_token_reasons": first.reasons} if first else {}),
        **({"first_token_shared": first.shared} if first else {}),
        "revision": reply.model,
        **usage_columns(reply, scoring),
        "answered_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(response, allow_nan=False).encode()


def read_payload(payload: bytes) -> Reply:
    """Return the reply that a stored response was made from, without likelihoods."""
    response = json.loads(payload)
    usage = Usage(**{f.name: response.get(f.name) for f in fields(Usage)})
    return Reply(
        response["outcome"],
        text=response["text"],
        reasoning=response.get("reasoning"),
        model=response["revision"],
        usage=usage,
    )


def usage_columns(reply: Reply, scoring: Scoring) -> dict[str, Any]:
    """Return tokens, time and price of a reply, also of an error: an endpoint may charge for it."""
    is_charged = scoring != "first_token" or "generation" not in (reply.scorings or ())  # one response has both
    return {
        "input_tokens": reply.usage.input_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "output_tokens": reply.usage.output_tokens if scoring == "generation" else None,
        "reasoning_tokens": reply.usage.reasoning_tokens if scoring == "generation" else None,
        "seconds": reply.usage.seconds,
        "usd": reply.usage.usd if is_charged or reply.usage.usd is None else 0.0,
    }
