"""Write a page on which an annotator labels the images of a fold, exactly as models receive them, and saves a CSV.

A classifier of kind `annotations` reads that CSV. A published result for comparison: human experts reach 72.5 % on
spectrograms of fold 1 (https://arxiv.org/abs/2411.12058).
"""

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.classifiers.annotations import anonymous_clip_name
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import strict_json
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.reports.choose_rendering import choose_rendering
from vlm_audio_pipeline.storage.atomic import write_atomically
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder


def write_annotation_sheet(
    data_folder: DataFolder, study: str, fold: int, rendering: str | None, out: Path, seed: int = 0
) -> Path:
    """Write one offline page with the images of a fold, in random order.

    The page contains no true labels and no clip ids. It names clips by `anonymous_clip_name`, and the classifier kind
    `annotations` translates these names back.

    Args:
        data_folder: the data folder.
        study: name of a study that was run there.
        fold: fold of the images.
        rendering: name of a rendering; None for the study's first one that has images.
        out: the HTML file to write; its parent folder is created.
        seed: seed of the order of the images.

    Returns:
        `out`.

    Raises:
        VlmAudioError: when there are no such images; the message lists the options.
    """
    rendering = choose_rendering(data_folder, study, rendering)
    folds_sql = "SELECT DISTINCT fold FROM spectrograms WHERE study = $1 AND rendering = $2 ORDER BY fold"
    folds = query(data_folder, folds_sql, [study, rendering])["fold"].to_pylist()
    if fold not in folds:
        raise VlmAudioError(f"--fold must be a fold that has images, got {fold}; options: {folds}")
    images = query(
        data_folder,
        "SELECT clip, image, media_type FROM spectrograms WHERE study = $1 AND rendering = $2 AND fold = $3",
        [study, rendering, fold],
    )
    labels = query(data_folder, "SELECT DISTINCT label FROM clips WHERE study = $1 ORDER BY label", [study])
    page = sheet_page(study, fold, rendering, labels["label"].to_pylist(), images, seed)
    write_atomically(out, page)
    return out


def sheet_page(study: str, fold: int, rendering: str, classes: list[str], images: pa.Table, seed: int = 0) -> str:
    """Return the HTML page.

    Args:
        study: name of the study.
        fold: fold of the images.
        rendering: rendering of the images.
        classes: the labels, in the order of the buttons; the first ten have the keys 1 to 9 and 0.
        images: columns clip, image (bytes) and media_type.
        seed: seed of the order of the images.
    """
    order = sorted(range(images.num_rows), key=lambda i: fingerprint("order", seed, images["clip"][i].as_py()))
    entries = [_image_entry(row) for row in images.take(pa.array(order, pa.int64())).to_pylist()]
    sheet: dict[str, Any] = {"study": study, "fold": fold, "rendering": rendering, "classes": classes}
    sheet["id"] = "annotation sheet " + fingerprint(sheet, seed, [entry["image"] for entry in entries])
    data = strict_json({**sheet, "images": entries}).replace("<", "\\u003c")  # text must not end the script element
    return _template().replace("{{SHEET}}", data)


def _image_entry(row: dict[str, Any]) -> dict[str, str]:
    encoded = base64.b64encode(row["image"]).decode()
    return {"clip": anonymous_clip_name(row["clip"]), "image": f"data:{row['media_type']};base64,{encoded}"}


def _template() -> str:
    return files("vlm_audio_pipeline.reports").joinpath("annotation_sheet.html").read_text(encoding="utf-8")
