"""What the ledger records for each classifier, for tests."""

from typing import NamedTuple

from vlm_audio_pipeline.storage.ledger import Ledger


class Spending(NamedTuple):
    """Requests that were or may have been charged, their settled and reserved USD, and the reserved part of it."""

    requests: int
    usd: float
    reserved_usd: float


def spending_by_classifier(ledger: Ledger) -> dict[str, Spending]:
    """Return the spending of each classifier with at least one reservation."""
    query = """
        SELECT classifier, count(*), sum(nano_usd), sum(CASE WHEN settled THEN 0 ELSE nano_usd END)
        FROM spending WHERE study = ? GROUP BY classifier ORDER BY classifier
    """
    with ledger._connection() as db:
        rows = db.execute(query, (ledger.study,)).fetchall()
    return {name: Spending(count, usd / 1e9, reserved / 1e9) for name, count, usd, reserved in rows}
