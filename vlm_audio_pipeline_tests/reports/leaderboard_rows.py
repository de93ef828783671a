"""Example rows of the leaderboard: ranked, partial and not run."""

import pyarrow as pa

from vlm_audio_pipeline.storage.schemas import TABLES

RANKED = {
    "study": "sound",
    "rank": 1,
    "classifier": "best_probe",
    "kind": "probe",
    "scoring": "score",
    "control": "none",
    "accuracy": 0.75,
    "accuracy_answered": 0.75,
    "macro_f1": 0.7321,
    "predictions": 40,
    "correct": 30,
    "answered": 40,
    "clips": 40,
    "dataset_clips": 40,
    "rejected_clips": 0,
    "trials": 1,
    "folds": "1,2",
    "training_clips": 20,
    "partial": False,
    "note": "30 of 40 predictions correct",
}
PARTIAL = {
    **RANKED,
    "rank": None,
    "classifier": "part",
    "control": "blank",
    "accuracy": 0.1,
    "macro_f1": None,
    "predictions": 20,
    "correct": 2,
    "answered": 20,
    "clips": 20,
    "folds": "1",
    "training_clips": None,
    "partial": True,
    "note": "2 of 20 predictions correct, 20 of 40 clips",
}
NOT_RUN = {
    **PARTIAL,
    "classifier": "absent",
    "control": "none",
    "scoring": "",
    "accuracy": None,
    "accuracy_answered": None,
    "predictions": 0,
    "correct": 0,
    "answered": 0,
    "clips": 0,
    "trials": 0,
    "folds": "",
    "note": "not run: weights of [x] missing, 100% & $HOME_DIR",
}


def leaderboard(*rows: dict) -> pa.Table:
    """Return a leaderboard with these rows."""
    return pa.Table.from_pylist(list(rows), TABLES["leaderboard"].arrow)
