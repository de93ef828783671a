"""The stages of a language model: examples, responses, predictions.

Responses have their own stage, so that a change of parser, synonyms or calibration sends no request. Belongs here: the inputs
and parameters of each stage.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all
from vlm_audio_pipeline.classifiers.language_models.examples import Selection, permute_labels, select_examples
from vlm_audio_pipeline.classifiers.language_models.few_shot_knn_baseline import few_shot_knn_predictions
from vlm_audio_pipeline.classifiers.language_models.messages import Backend
from vlm_audio_pipeline.classifiers.language_models.predicting import predict_from_responses
from vlm_audio_pipeline.classifiers.language_models.questions import NO_IMAGE, Lookup, audio_lookup, image_lookup
from vlm_audio_pipeline.classifiers.language_models.response_keys import RESPONSE_VERSION
from vlm_audio_pipeline.classifiers.language_models.vocabulary import build_vocabulary
from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors, model_columns
from vlm_audio_pipeline.classifiers.shown_labels import add_shown_labels
from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel

Folds = tuple[int, ...]


def examples_stage(spec: "LanguageModel", folds: Folds) -> Stage:
    """Return the stage that chooses examples from the other folds."""
    selection = _selection(spec)
    images = _image_inputs(spec)

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, fold = context.inputs["clips"], int(context.fold or 0)
        vectors = align_vectors(clips, context.inputs[f"embeddings/{spec.encoder}"], str(spec.encoder))
        table, column = (context.inputs[images[0].key], "image_sha256") if images else (clips, "samples_sha256")
        content = dict(zip(table["clip"].to_pylist(), table[column].to_pylist(), strict=True))
        queries = spec.queries(clips, fold, folds)["clip"].to_pylist()
        builder, tables = spec.question_builder(context.classes), []
        for trial in spec.trials:
            chosen = select_examples(
                clips,
                fold,
                context.classes,
                selection,
                content=content,
                draw=trial.draw,
                order=builder.class_order(trial),
                vectors=vectors,
                queries=queries,
            )
            tables.append(chosen.append_column("trial", pa.array([trial.trial] * chosen.num_rows, pa.int64())))
        return {"examples": pa.concat_tables(tables)}

    return Stage(
        asset="examples",
        tables=("examples",),
        version=1,
        parameters={
            **_parameters(
                spec, "shots", "select", "examples", "permuted_labels", "draws", "orders", "paraphrases", "repeats"
            ),
            **_sample_parameters(spec, folds),
            **_order_parameters(spec),
            "seed": spec.seed,
            "class_order": spec.question_builder(()).prompt.fingerprint_fields(spec.input)["class_order"],
        },
        inputs=(Input("clips", folds="all"), Input("embeddings", spec.encoder, folds="all"), *images),
        run=run,
        description=f"Clips of other folds as examples, {spec.shots} of each class, selected by `{spec.select}` on "
        f"vectors of '{spec.encoder}'.",
        folds=spec.folds,
    )


def build_questions(spec: "LanguageModel", name: str, folds: Folds, context: StageContext) -> list[Question]:
    """Return all questions about a fold.

    Args:
        spec: the language model.
        name: its name in the study.
        folds: all folds of the dataset.
        context: with the inputs of the stage `responses`.
    """
    clips, fold = context.inputs["clips"], int(context.fold or 0)
    build_vocabulary(context.classes, spec.synonyms)  # fails before any request is sent if a synonym is ambiguous
    queries = spec.queries(clips, fold, folds)["clip"].to_pylist()
    examples = context.inputs[f"examples/{name}"].to_pylist() if spec.shots else []
    lookup = _lookup(spec, context, {*queries, *(row["clip"] for row in examples)}, set(queries))
    return spec.question_builder(context.classes).build(queries, examples, lookup)


def responses_stage(spec: "LanguageModel", name: str, folds: Folds) -> Stage:
    """Return the stage that sends requests and stores the responses."""
    few_shot = (Input("examples", name),) if spec.shots else ()
    weights = (spec.weights.input_asset,) if spec.weights else ()
    # The revision is an input asset, not a parameter.
    model_identity = {k: v for k, v in spec.model_identity().items() if k != "revision"}

    def run(context: StageContext) -> dict[str, pa.Table]:
        # A local model stays loaded, so the counts of earlier stages are subtracted.
        counts_before: list[tuple[Backend, Mapping[str, int]]] = []

        def open_backend() -> Backend:
            backend = spec.open_backend(context)
            counts_before.append((backend, backend.token_counts()))
            return backend

        result = ask_all(
            build_questions(spec, name, folds, context),
            spec.model_identity(),
            context.result_store,
            open_backend,
            model=spec.model,
            revision=spec.weights.resolve() if spec.weights else None,
            accepted_models=spec.accepted_models or (),
            other_folds=context.other_folds() if spec.accepted_models is not None else (),
            progress=context.progress,
        )
        context.unfinished += result.unfinished
        for backend, before in counts_before:
            counts = {key: count - before[key] for key, count in backend.token_counts().items()}
            context.counts.update({key: count for key, count in counts.items() if count})
        return {"responses": result.table}

    return Stage(
        asset="responses",
        tables=("responses",),
        version=RESPONSE_VERSION,
        parameters={
            "asker": model_identity,
            "model": spec.model if spec.weights is None else None,
            "prompt": spec.question_builder(()).prompt.fingerprint_fields(spec.input),
            "wants": sorted(spec.scorings),
            **_parameters(spec, "input", "label_form", "controls", "draws", "orders", "paraphrases", "repeats"),
            **_parameters(spec, "temperature", "top_p", "max_tokens", "seed"),
            **spec.perturbation_parameters(),
            **_order_parameters(spec),
            **_sample_parameters(spec, folds),
        },
        inputs=(
            Input("clips", folds="all" if spec.shots else "same"),
            *_image_inputs(spec),
            *_controlled_inputs(spec),
            *few_shot,
            *weights,
        ),
        run=run,
        asks_model=True,
        description=f"Responses of {spec.model}: the summed log-probability of every class label (natural logarithm) and the "
        "generated text, with tokens, s and USD.",
        folds=spec.folds,
        accelerator=spec.accelerator,
        unavailable=lambda: spec.unavailable() or _missing_noise(spec),
        cost=spec.cost,
        paid=spec.paid,
        accepted_models=spec.accepted_models,
    )


def predictions_stage(spec: "LanguageModel", name: str, folds: Folds) -> Stage:
    """Return the stage that turns responses into predictions, and adds the k-NN baseline of a few-shot model."""
    fits_temperature = "temperature" in spec.calibrate
    few_shot = (Input("examples", name), Input("embeddings", spec.encoder, folds="all")) if spec.shots else ()

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, fold = context.inputs["clips"], int(context.fold or 0)
        queries = spec.queries(clips, fold, folds)
        responses = context.inputs[f"responses/{name}"]
        in_fold = pc.equal(responses["fold"], fold)
        constants = {
            "kind": spec.kind,
            "rendering": spec.rendering,
            "prompt": spec.question_builder(context.classes).prompt.name,
            "shots": spec.shots,
            "training_clips": spec.shots * len(context.classes),
        }
        predictions = predict_from_responses(
            responses.filter(in_fold),
            clips,
            context.classes,
            normalise=spec.normalise,
            calibrate=spec.calibrate,
            other_responses=responses.filter(pc.invert(in_fold)),
            synonyms=spec.synonyms,
            **constants,
        )
        clips_of_fold = clips.filter(pc.equal(clips["fold"], fold))
        renamed_classes = _renamed_classes(spec, context.classes)
        if not spec.shots or not queries.num_rows:
            return {"predictions": add_shown_labels(predictions, clips_of_fold, renamed_classes)}
        embeddings = context.inputs[f"embeddings/{spec.encoder}"]
        baseline = few_shot_knn_predictions(
            context.inputs[f"examples/{name}"],
            clips,
            align_vectors(clips, embeddings, str(spec.encoder)),
            fold,
            context.classes,
            queries,
            k=spec.shots,
            **_drop_nulls(
                {"kind": spec.kind, "shots": spec.shots, "encoder": spec.encoder, **model_columns(embeddings)}
            ),
        )
        all_predictions = pa.concat_tables([predictions, baseline], promote_options="default")
        return {"predictions": _add_draws(add_shown_labels(all_predictions, clips_of_fold, renamed_classes), spec)}

    return Stage(
        asset="predictions",
        tables=("predictions",),
        version=7,  # increase it also when the parser changes
        parameters={
            **_parameters(spec, "normalise", "calibrate", "rendering", "prompt", "shots", "encoder", "label_form"),
            **({"selection": _selection(spec).strategy} if spec.shots else {}),
            **(
                _parameters(spec, "permuted_labels", "draws", "orders", "paraphrases", "repeats", "seed")
                if spec.permuted_labels
                else {}
            ),
            "synonyms": {label: list(words) for label, words in sorted(spec.synonyms.items())},
            **_sample_parameters(spec, folds),
        },
        inputs=(
            Input("clips", folds="all" if spec.shots or fits_temperature else "same"),
            Input("responses", name, folds="all" if fits_temperature else "same"),
            *few_shot,
        ),
        run=run,
        description="Classes from the responses: the most likely class, and the class that the text names; never guessed."
        + (" Also k-NN on the same examples." if spec.shots else ""),
        folds=spec.folds,
    )


def _selection(spec: "LanguageModel") -> Selection:
    return Selection(spec.shots, spec.select, spec.seed, spec.examples, spec.permuted_labels)


def _add_draws(predictions: pa.Table, spec: "LanguageModel") -> pa.Table:
    """Add the columns `selection` and `draw` to predictions with examples."""
    draw_of = {trial.trial: trial.draw for trial in spec.trials}
    draws = [draw_of[trial] for trial in predictions["trial"].to_pylist()]
    strategy = _selection(spec).strategy
    return predictions.append_column("selection", pa.repeat(strategy, len(draws))).append_column(
        "draw", pa.array(draws, pa.int64())
    )


def _renamed_classes(spec: "LanguageModel", classes: tuple[str, ...]) -> dict[int, dict[str, str]]:
    """Return trial -> (class -> its name in the examples); empty without permuted labels."""
    if not spec.permuted_labels:
        return {}
    return {trial.trial: permute_labels(classes, spec.seed, trial.draw) for trial in spec.trials}


def _parameters(spec: "LanguageModel", *fields: str) -> dict[str, Any]:
    """Return the named parameters of the spec, without those that equal their default."""
    return spec.model_dump(mode="json", include=set(fields), exclude_defaults=True)


def _order_parameters(spec: "LanguageModel") -> dict[str, Any]:
    """Return how class orders are made; empty for one order, which stays as it is when the method changes."""
    return {"class_orders": "cyclic"} if spec.orders > 1 else {}


def _sample_parameters(spec: "LanguageModel", folds: Folds) -> dict[str, Any]:
    """Return the sample as stage parameters; empty if all clips are classified."""
    return {"sample": spec.sample.model_dump(mode="json"), **spec.sampled_folds(folds)} if spec.sample else {}


def _image_inputs(spec: "LanguageModel") -> tuple[Input, ...]:
    if spec.rendering is None:
        return ()
    return (Input("spectrograms", spec.rendering, folds="all" if spec.shots else "same"),)


def _controlled_inputs(spec: "LanguageModel") -> tuple[Input, ...]:
    if spec.rendering is None:
        return ()
    names = (name for name in spec.needs().conditions if name != NO_IMAGE)
    return tuple(Input("spectrograms", controlled_name(spec.rendering, name)) for name in names)


def _missing_noise(spec: "LanguageModel") -> str | None:
    """Return why changed audio cannot be sent (the file of the noise is missing), or None; images are in the tables."""
    reasons = () if spec.rendering else (change.unavailable() for change in spec.perturbations)
    return next((reason for reason in reasons if reason), None)


def _lookup(spec: "LanguageModel", context: StageContext, originals: set[str], queries: set[str]) -> Lookup:
    """Return the lookup of images or audio: of the clips `originals` without a control, of `queries` under each control."""
    if spec.rendering is None:
        clips = context.inputs["clips"].to_pylist()
        return audio_lookup(context.dataset, clips, int(context.fold or 0), spec.perturbations)
    tables, clips = {"none": context.inputs[f"spectrograms/{spec.rendering}"]}, {"none": originals}
    for control in spec.needs().conditions:
        if control != NO_IMAGE:
            tables[control] = context.inputs[f"spectrograms/{controlled_name(spec.rendering, control)}"]
            clips[control] = queries
    return image_lookup(tables, clips)


def _drop_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
