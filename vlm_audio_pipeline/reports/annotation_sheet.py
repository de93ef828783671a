"""A page on which people read pictures as a model does, and save what they say: the human row of a study.

What belongs here: writing the page from the pictures that were made, exactly as models are shown them. What does not:
reading the answers back, which a classifier of kind `human` does (`path:` names the CSV). The published row to stand
beside is that of experts reading spectrograms (arXiv 2411.12058: 72.5 % on fold 1).
"""

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.classifiers.human import anonymous
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.reports.shown import shown_rendering
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.layout import Layout


def write_reading_sheet(layout: Layout, study: str, fold: int, rendering: str | None, out: Path, seed: int = 0) -> Path:
    """Write one offline page with the pictures of a fold, in random order.

    No true label and no clip id is in the page: clips go under `anonymous` names, which `human` reads back.

    Args:
        layout: the data folder.
        study: name of a study that was run there.
        fold: whose pictures.
        rendering: its name in the study; None: the first whose pictures were made.
        out: the HTML file to write; its folder is made.
        seed: another one gives another order.

    Returns:
        `out`.

    Raises:
        VlmAudioError: when there are no such pictures; names what there is.
    """
    rendering = shown_rendering(layout, study, rendering)
    made = "SELECT DISTINCT fold FROM spectrograms WHERE study = $1 AND rendering = $2 ORDER BY fold"
    folds = query(layout, made, [study, rendering])["fold"].to_pylist()
    if fold not in folds:
        raise VlmAudioError(f"--fold must be one whose pictures were made, got {fold}; options: {folds}")
    shown = query(
        layout,
        "SELECT clip, picture, media_type FROM spectrograms WHERE study = $1 AND rendering = $2 AND fold = $3",
        [study, rendering, fold],
    )
    labels = query(layout, "SELECT DISTINCT label FROM clips WHERE study = $1 ORDER BY label", [study])
    page = sheet_page(study, fold, rendering, labels["label"].to_pylist(), shown, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


def sheet_page(study: str, fold: int, rendering: str, classes: list[str], shown: pa.Table, seed: int = 0) -> str:
    """Compose the page.

    Args:
        study: name of the study.
        fold: whose pictures.
        rendering: of the pictures.
        classes: the labels to choose from, in the order of the buttons; the first ten have keys 1 to 9 and 0.
        shown: columns clip, picture (bytes) and media_type.
        seed: another one gives another order.
    """
    order = sorted(range(shown.num_rows), key=lambda i: fingerprint("order", seed, shown["clip"][i].as_py()))
    pictures = [_picture(row) for row in shown.take(pa.array(order, pa.int64())).to_pylist()]
    sheet: dict[str, Any] = {"study": study, "fold": fold, "rendering": rendering, "classes": classes}
    sheet["id"] = "reading sheet " + fingerprint(sheet, seed, [p["picture"] for p in pictures])
    data = json.dumps({**sheet, "pictures": pictures}).replace("<", "\\u003c")  # text may not end the script
    return _template().replace("{{SHEET}}", data)


def _picture(row: dict[str, Any]) -> dict[str, str]:
    encoded = base64.b64encode(row["picture"]).decode()
    return {"clip": anonymous(row["clip"]), "picture": f"data:{row['media_type']};base64,{encoded}"}


def _template() -> str:
    return files("vlm_audio_pipeline.reports").joinpath("reading_sheet.html").read_text(encoding="utf-8")
