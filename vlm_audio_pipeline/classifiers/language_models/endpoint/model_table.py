"""The models of endpoints: prices, tokens of images, retirement; read from `models.csv`.

The table is data with a date and a source in every row. An empty cell means that the source says nothing. The
table becomes outdated: `prices`, `image_tokens` and `retires` of a study have priority. To update it, edit the file; a test checks its format.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices

INPUTS = ("text", "image", "audio")


@dataclass(frozen=True)
class ModelFacts:
    """One row of the table; None and () stand for an empty cell.

    Attributes:
        id: the provider's name of the model.
        provider: its provider.
        host: host of the provider's API, to which the prices apply.
        inputs: text, image, audio.
        prices: USD per million tokens; the price of the input is that of audio where it costs more.
        image_tiles: tokens of an image, and of each of its tiles of 512 px.
        image_patch_factor: tokens of each patch of 32 px.
        retirement: the first day on which requests fail or are answered by another model.
        replacement: id that the provider recommends, or "".
        reasoning: whether it reasons before it answers.
        batch: whether it can be asked in batches.
        sources: URLs of the values.
        looked_up: the day on which they were looked up.
        note: limits of the values.
    """

    id: str
    provider: str
    host: str
    inputs: tuple[str, ...]
    prices: Prices | None
    image_tiles: tuple[int, int] | None
    image_patch_factor: float | None
    retirement: date | None
    replacement: str
    reasoning: bool | None
    batch: bool | None
    sources: tuple[str, ...]
    looked_up: date
    note: str


@cache
def model_table() -> Mapping[str, ModelFacts]:
    """Return the rows of `models.csv` by id."""
    text = files(__package__).joinpath("models.csv").read_text(encoding="utf-8")
    return MappingProxyType({row["id"]: _read_facts(row) for row in csv.DictReader(text.splitlines())})


def find_model(model: str, host: str | None = None) -> ModelFacts | None:
    """Return the row of a model, or None.

    Args:
        model: its name at the endpoint. A gateway's prefix ("openai/") is ignored.
        host: the endpoint must be this host; None for any endpoint.
    """
    row = model_table().get(model) or (model_table().get(model.rsplit("/", 1)[-1]) if host is None else None)
    return row if row is not None and host in (None, row.host) else None


def published_prices(model: str, host: str) -> Prices | None:
    """Return the published prices of a model at its provider's own host, or None."""
    row = find_model(model, host)
    return row.prices if row else None


def image_formula(model: str) -> ModelFacts | None:
    """Return the row whose formula applies to the images of a model: the longest id that its name begins with."""
    name = model.lower()
    rows = [row for row in model_table().values() if row.image_tiles or row.image_patch_factor]
    return max((row for row in rows if name.startswith(row.id)), key=lambda row: len(row.id), default=None)


def _read_facts(row: Mapping[str, str]) -> ModelFacts:
    return ModelFacts(
        id=row["id"],
        provider=row["provider"],
        host=row["host"],
        inputs=tuple(row["inputs"].split()),
        prices=_prices(row),
        image_tiles=(int(row["image_base_tokens"]), int(row["image_tile_tokens"]))
        if row["image_base_tokens"]
        else None,
        image_patch_factor=float(row["image_patch_factor"]) if row["image_patch_factor"] else None,
        retirement=date.fromisoformat(row["retirement"]) if row["retirement"] else None,
        replacement=row["replacement"],
        reasoning=_yes_or_no(row["reasoning"]),
        batch=_yes_or_no(row["batch"]),
        sources=tuple(row["source"].split()),
        looked_up=date.fromisoformat(row["looked_up"]),
        note=row["note"],
    )


def _prices(row: Mapping[str, str]) -> Prices | None:
    if not row["usd_input"] or not row["usd_output"]:
        return None
    prices = [float(row[name]) for name in ("usd_input", "usd_audio_input") if row[name]]
    cached = float(row["usd_cached_input"]) if row["usd_cached_input"] else None
    return Prices(input=max(prices), cached_input=cached, output=float(row["usd_output"]))


def _yes_or_no(cell: str) -> bool | None:
    return {"yes": True, "no": False, "": None}[cell]
