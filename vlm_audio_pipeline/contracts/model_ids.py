"""Compare the model id that an endpoint returns with the one that was requested.

Providers serve other models under old names: they route retired ids to successors and busy models to smaller ones. The check is
blind where a gateway returns the requested alias, or a name of its own, whatever model has answered.
"""

import re
from collections.abc import Collection, Iterable

from vlm_audio_pipeline.contracts.errors import NotAvailable

_TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)*")
_DATE = re.compile(
    r"[-_@:. ](?:20\d\d[-_.]?[01]\d[-_.]?[0-3]\d|[01]\d[-_]?[0-3]\d(?:[-_]20\d\d)?|2\d(?:0[1-9]|1[0-2])|[0-3]\d{2})(?=$|[-_@:])"
)
_SNAPSHOT_WORDS = frozenset(("latest", "preview", "exp", "experimental", "beta", "free", "online", "default"))
_PACKAGING_WORDS = frozenset(
    ("instruct", "chat", "it", "hf", "gguf", "awq", "gptq", "fp", "bf", "int", "mlx", "unsloth", "bnb", "nvfp")
)
_FAMILIES = frozenset(
    [
        "gpt",
        "chatgpt",
        "o",
        "claude",
        "gemini",
        "gemma",
        "qwen",
        "qwq",
        "qvq",
        "llama",
        "mistral",
        "ministral",
        "magistral",
        "pixtral",
        "mixtral",
        "voxtral",
        "deepseek",
        "janus",
        "grok",
        "phi",
        "kimi",
        "glm",
        "internvl",
        "llava",
        "smolvlm",
        "command",
        "nova",
        "minimax",
        "ernie",
        "hunyuan",
        "doubao",
        "step",
        "molmo",
        "aya",
        "granite",
        "nemotron",
        "aria",
        "idefics",
        "paligemma",
        "cogvlm",
        "moondream",
        "yi",
        "seed",
    ]
)


def is_other_model(requested: str, returned: str) -> bool:
    """Return whether the returned id names another family, version or size than the requested one.

    A snapshot of an alias (`gpt-4o` -> `gpt-4o-2024-08-06`) is the same model, and so is the same name with another
    organisation, case or packaging (`-Instruct`, `-AWQ`). An id of which nothing is known is not another model.

    >>> is_other_model("gpt-4o", "gpt-4o-2024-08-06"), is_other_model("gpt-4o", "gpt-4o-mini-2024-07-18")
    (False, True)
    >>> is_other_model("gpt-4o-2024-08-06", "gpt-4o-2024-11-20"), is_other_model("gpt-4o", "served")
    (True, False)
    """
    first, second = _name(requested), _name(returned)
    if first == second:
        return False
    dates = _DATE.findall(first), _DATE.findall(second)
    if dates[0] and dates[1] and [_digits(d) for d in dates[0]] != [_digits(d) for d in dates[1]]:
        return True
    words = _words(first), _words(second)
    if not words[0] or not words[1]:
        return False
    families = [_family(w) for w in words]
    if words[0][0] != words[1][0]:
        return None not in families and families[0] != families[1]
    return words[0] != words[1]


def mixed_models(revisions: Iterable[str | None], accepted: Collection[str] = ()) -> str | None:
    """Return why responses are not of one model, or None.

    Args:
        revisions: column `revision` of responses of an endpoint: the returned id, its fingerprint, parameters left out.
        accepted: ids that may stand beside others (`accept` of the endpoint).
    """
    ids = sorted({revision.split()[0] for revision in revisions if revision} - set(accepted))
    for i, first in enumerate(ids):
        for second in ids[i + 1 :]:
            if is_other_model(first, second):
                return (
                    f"all responses of a classifier must be of one model, got responses of {first} and of {second}: the "
                    "endpoint has changed the model behind the name; name one version in `model` and ask again, or accept "
                    f"both with `endpoint: {{accept: [{first}, {second}]}}`"
                )
    return None


def refuse_mixed_models(revisions: Iterable[str | None], accepted: Collection[str] = ()) -> None:
    """Check that responses are of one model; see `mixed_models`.

    Raises:
        NotAvailable: if two of them name different models.
    """
    if reason := mixed_models(revisions, accepted):
        raise NotAvailable(reason)


def _name(model: str) -> str:
    """Return the last part of a model id, in lower case, without the organisation, a folder or a file type."""
    name = re.split(r"[/\\]", model.strip().lower().rstrip("/\\"))[-1]
    name = re.sub(r"@(?!\d{6,8}$)[\w.-]+$", "", name)  # a revision of the weights, as `transformers serve` appends
    return re.sub(r"\.(?:gguf|safetensors|bin)$", "", name)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _words(name: str) -> list[str]:
    """Return the words and numbers that tell models apart, without dates, snapshots and packaging."""
    tokens: list[str] = _TOKEN.findall(_DATE.sub(" ", name))
    ignored = _SNAPSHOT_WORDS | _PACKAGING_WORDS
    return [
        token
        for before, token in zip(["", *tokens], tokens, strict=False)
        if token not in ignored and not (before in _PACKAGING_WORDS and token.isdigit())
    ]


def _family(words: list[str]) -> str | None:
    return words[0] if words[0] in _FAMILIES else None
