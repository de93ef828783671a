"""`vap.classify`: the predictions for recordings, as a study would make them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.api.recordings import Recording, recording_files
from vlm_audio_pipeline.api.rendering import Rendering, find_rendering

if TYPE_CHECKING:
    from vlm_audio_pipeline.api.recording_study import Parts
    from vlm_audio_pipeline.api.tables import ResultTable
    from vlm_audio_pipeline.classifiers.base import ClassifierSpec

_TWO_TOWER_IMAGE_TYPES = ("clip", "siglip")
_COLUMNS = ("scoring", "predicted", "outcome", "confidence", "scores", "text", "seconds", "usd")


def classify(
    recordings: Recording | Sequence[Recording],
    model: str,
    classes: Sequence[str] | None = None,
    *,
    study: str | Path | None = None,
    rendering: Rendering = "paper",
    data: str | Path | None = None,
    **settings: Any,
) -> "ResultTable":
    """Classify recordings without training: the same predictions as in a study.

    CLAP, CLIP and SigLIP choose the class whose text is most similar (zero-shot). Any other model is a language model that
    is asked about the image or, with `input="audio"`, about the audio. Vectors and responses are kept in the result store
    of the data folder, so that a repeated call computes, and pays, nothing.

    Args:
        recordings: audio files, or (samples, sample rate); one or several.
        model: a model id of the hub, a folder, a model of this package (`demo-clap`, `demo-janus`), or with `study` the name of one
            of its classifiers, of kind zero_shot or a language_model without shots.
        classes: the classes to choose among; with `study` by default those of its dataset.
        study: a built-in study, a study file, or a study that was run.
        rendering: the rendering of the images, for a model that takes images; see `vap.render`.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.
        **settings: keys of the classifier (or of its encoder) as in a study file: `template="a sound of {label}"`,
            `prompt="paper"`, `input="audio"`, ...

    Returns:
        One row per recording and scoring, in the order of `recordings`: recording, scoring (score, likelihood or
        generation), predicted, outcome, confidence, scores by class, text, seconds, usd. `predicted` is null unless the
        outcome is answered.

    Raises:
        BadStudy: for an unknown key, and for fewer than two classes.
        BadClips: for recordings that cannot be decoded; lists all of them.
        NotAvailable: if weights, keys or a budget are missing.
    """
    from vlm_audio_pipeline.api.recording_study import compute, open_data, refuse_settings

    with open_data(data) as data_folder, recording_files(recordings) as files:
        if study is not None:
            refuse_settings(study, settings)
            parts, classes = _study_classifier(study, model, classes, data_folder)
            name = model
        else:
            classes = _given_classes(classes)
            parts, name = _model_parts(model, rendering, settings), "model"
        graph = parts.graph(files, data_folder, classes)
        return _table(compute(graph, f"predictions/{name}", files), [file.name for file in files])


def _given_classes(classes: Sequence[str] | None) -> Sequence[str]:
    from vlm_audio_pipeline.contracts.errors import BadStudy

    if classes is None:
        raise BadStudy('`classes` is required without `study`; give for example classes=["dog", "rain"]')
    return classes


def _study_classifier(
    study: str | Path, name: str, classes: Sequence[str] | None, data_folder: Any
) -> "tuple[Parts, Sequence[str]]":
    from vlm_audio_pipeline.api.recording_study import find_part, study_parts
    from vlm_audio_pipeline.contracts.errors import VlmAudioError

    parts = study_parts(study, data_folder)
    assert parts.study is not None
    spec = find_part("classifiers", name, parts.classifiers, parts.study)
    needs = spec.needs()
    if spec.kind not in ("zero_shot", "language_model"):
        raise VlmAudioError(
            f"classify needs a classifier without training clips (zero_shot or language_model), got '{name}' of kind "
            f"{spec.kind}; run the study for its own clips, or use another classifier"
        )
    if needs.shots:
        raise VlmAudioError(
            f"classify needs a classifier without examples, got '{name}' with {needs.shots} per class; "
            "`ask(recording, ..., study=...)` uses the study's examples"
        )
    if classes is None:
        classes = parts.study.dataset.open(data_folder).classes
    return replace(parts, classifiers={name: single_pass(spec)}), classes


def _model_parts(model: str, rendering: Rendering, settings: Mapping[str, Any]) -> "Parts":
    """Return the parts of a zero-shot classifier or of a language model, by the type of the model."""
    from vlm_audio_pipeline.api.recording_study import Parts, described_spec

    kind = None
    if settings.get("backend", "transformers") == "transformers":
        kind = _encoder_kind(model, settings.get("revision"))
    if kind is None:
        return language_model_parts(model, rendering, settings)
    encoder_values: dict[str, Any] = {"kind": kind, "model": model}
    if kind == "vision":
        encoder_values |= {"rendering": "rendering", "pooling": "pooler"}
    classifier_values: dict[str, Any] = {"kind": "zero_shot", "encoder": "model"}
    fields = type(described_spec("encoders", "model", encoder_values)).model_fields
    for key, value in settings.items():
        (encoder_values if key in fields else classifier_values)[key] = value
    return Parts(
        {"rendering": find_rendering(rendering)} if kind == "vision" else {},
        {"model": described_spec("encoders", "model", encoder_values)},
        {"model": described_spec("classifiers", "model", classifier_values)},
    )


def _encoder_kind(model: str, revision: str | None) -> str | None:
    """Return the kind of encoder with which a model classifies zero-shot; None for a language model.

    Raises:
        NotAvailable: if the files of the model, which give its type, are not on this machine.
    """
    from vlm_audio_pipeline.api.recording_study import described_spec

    weights = described_spec("encoders", "model", {"kind": "clap", "model": model, "revision": revision}).weights
    weights.snapshot()
    model_type = weights.config().get("model_type")
    return "clap" if model_type == "clap" else "vision" if model_type in _TWO_TOWER_IMAGE_TYPES else None


def language_model_parts(model: str, rendering: Rendering, settings: Mapping[str, Any]) -> "Parts":
    """Return the parts of a language model on images of a rendering, or with `input: audio` on audio."""
    from vlm_audio_pipeline.api.recording_study import Parts, described_spec

    takes_images = settings.get("input", "image") == "image"
    values = {
        "kind": "language_model",
        "model": model,
        **({"rendering": "rendering"} if takes_images else {}),
        **settings,
    }
    spec = described_spec("classifiers", "model", values)
    return Parts({"rendering": find_rendering(rendering)} if takes_images else {}, {}, {"model": single_pass(spec)})


def single_pass(spec: "ClassifierSpec") -> "ClassifierSpec":
    """Return a classifier that classifies each clip once, without controls except those that its calibration needs."""
    values: dict[str, Any] = {"folds": None, "sample": None, "reproduces": None, "margin": None}
    values["controls"] = ("blank",) if "contextual" in getattr(spec, "calibrate", ()) else ()
    if "perturb" in type(spec).model_fields:
        values["perturb"] = None
    if spec.kind == "language_model":
        values |= {"draws": 1, "orders": 1, "paraphrases": 1, "repeats": 1}
    return spec.model_copy(update=values)


def _table(predictions: Any, names: list[str]) -> "ResultTable":
    import pyarrow as pa
    import pyarrow.compute as pc

    from vlm_audio_pipeline.api.tables import ResultTable

    rows = predictions.filter(pc.equal(predictions["control"], "none")).sort_by(
        [("clip", "ascending"), ("scoring", "ascending")]
    )
    recordings = pa.array([names[int(clip)] for clip in rows["clip"].to_pylist()], pa.string())
    return ResultTable(rows.select([*_COLUMNS]).add_column(0, "recording", recordings))
