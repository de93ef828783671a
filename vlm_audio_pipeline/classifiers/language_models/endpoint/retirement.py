"""Warn about models that their provider has retired, or will retire soon.

Requests for a retired model fail, or are answered by another model under the old name. The dates are those of `models.csv`; the
key `retires` of an endpoint has priority.
"""

from datetime import date

from vlm_audio_pipeline.classifiers.language_models.endpoint.model_table import find_model
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint

WARNING_DAYS = 90
"""A retirement within this many days is worth a warning."""


def retirement_warning(model: str, endpoint: Endpoint, today: date) -> str | None:
    """Return when a model is retired, its replacement and the source, if that day has passed or comes soon; None otherwise.

    Gateways and proxies are included: they pass requests on to the provider.
    """
    row = find_model(model)
    day = endpoint.retires if endpoint.retires is not None else row and row.retirement
    if not isinstance(day, date) or (day - today).days > WARNING_DAYS:
        return None
    if endpoint.retires is not None or row is None:
        return f"the provider {_verb(day, today)} {model} on {day} (`retires` in the study)"
    replacement = f"; its replacement is {row.replacement}" if row.replacement else ""
    return f"{row.provider} {_verb(day, today)} {model} on {day}{replacement} ({row.sources[-1]}, looked up on {row.looked_up})"


def retired_reason(model: str, endpoint: Endpoint) -> str | None:
    """Return why no request is sent to a model that was already retired when the table was made, or None."""
    row = find_model(model, endpoint.host)
    if row is None or row.retirement is None or row.retirement > row.looked_up or endpoint.retires is not None:
        return None
    replacement = f"use its replacement {row.replacement}" if row.replacement else "use another model"
    return (
        f"{row.provider} has retired {model} on {row.retirement} ({row.sources[-1]}); {replacement}, or declare "
        "`endpoint: {retires: never}` if it still answers"
    )


def _verb(day: date, today: date) -> str:
    return "has retired" if day <= today else "will retire"
