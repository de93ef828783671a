"""The tables of a language model as stages: examples, answers, predictions.

What belongs here: which tables each reads, and which of a study's words can change it: what is asked is apart from how
answers are read, so that a new parser, synonym or calibration costs no call of a model. What does not: the work itself.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.base import aligned, model_of
from vlm_audio_pipeline.classifiers.language_models.asking import ANSWER_VERSION, ask_all
from vlm_audio_pipeline.classifiers.language_models.backends import backend_of
from vlm_audio_pipeline.classifiers.language_models.examples import Selection, examples
from vlm_audio_pipeline.classifiers.language_models.matched import matched_predictions
from vlm_audio_pipeline.classifiers.language_models.messages import Backend
from vlm_audio_pipeline.classifiers.language_models.predicting import predictions_of
from vlm_audio_pipeline.classifiers.language_models.questions import NO_IMAGE, Lookup, pictures, sounds
from vlm_audio_pipeline.classifiers.language_models.vocabulary import vocabulary
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel

Folds = tuple[int, ...]


def examples_stage(spec: "LanguageModel", folds: Folds) -> Stage:
    """Give the stage that chooses examples from the other folds."""
    selection = Selection(spec.shots, spec.select, spec.seed, spec.examples, spec.permuted_labels)
    shown = _shown_inputs(spec)

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, fold = context.inputs["clips"], int(context.fold or 0)
        vectors = aligned(clips, context.inputs[f"embeddings/{spec.encoder}"], str(spec.encoder))
        table, column = (context.inputs[shown[0].key], "picture_sha256") if shown else (clips, "samples_sha256")
        content = dict(zip(table["clip"].to_pylist(), table[column].to_pylist(), strict=True))
        queries = spec.queries(clips, fold, folds)["clip"].to_pylist()
        form, made = spec.form(context.classes), []
        for trial in spec.trials:
            chosen = examples(
                clips,
                fold,
                context.classes,
                selection,
                content=content,
                draw=trial.draw,
                order=form.order(trial),
                vectors=vectors,
                queries=queries,
            )
            made.append(chosen.append_column("trial", pa.array([trial.trial] * chosen.num_rows, pa.int64())))
        return {"examples": pa.concat_tables(made)}

    return Stage(
        asset="examples",
        tables=("examples",),
        version=1,
        parameters={
            **_said(
                spec, "shots", "select", "examples", "permuted_labels", "draws", "orders", "paraphrases", "repeats"
            ),
            **_asked(spec, folds),
            "seed": spec.seed,
            "class_order": spec.form(()).prompt.identity(spec.shown)["class_order"],
        },
        inputs=(Input("clips", folds="all"), Input("embeddings", spec.encoder, folds="all"), *shown),
        run=run,
        description=f"Clips of other folds that the model is shown, {spec.shots} of each class by `{spec.select}` on "
        f"vectors of '{spec.encoder}'.",
        folds=spec.folds,
    )


def answers_stage(spec: "LanguageModel", name: str, folds: Folds) -> Stage:
    """Give the stage that asks, and keeps what the model says."""
    few_shot = (Input("examples", name),) if spec.shots else ()
    weights = (spec.weights.observed,) if spec.weights else ()
    asker = {k: v for k, v in spec.asker().items() if k != "revision"}  # observed, and not a parameter

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, fold = context.inputs["clips"], int(context.fold or 0)
        vocabulary(context.classes, spec.synonyms)  # refuses what could not be read before anything is asked
        queries = spec.queries(clips, fold, folds)["clip"].to_pylist()
        rows = context.inputs[f"examples/{name}"].to_pylist() if spec.shots else []
        look = _lookup(spec, context, {*queries, *(row["clip"] for row in rows)}, set(queries))
        revision = spec.weights.resolve() if spec.weights else None
        used: list[Backend] = []

        def backend() -> Backend:
            used.append(backend_of(spec, context))
            before.append(_tokens(used[0]))
            return used[0]

        before: list[tuple[int, int]] = []
        made = ask_all(
            spec.form(context.classes).questions(queries, rows, look),
            spec.asker(),
            context.rows,
            backend,
            model=spec.model,
            revision=revision,
            progress=context.progress,
        )
        context.unfinished += made.unfinished
        if used:
            names = ("tokens_computed", "tokens_naive")
            spent = [after - start for after, start in zip(_tokens(used[0]), before[0], strict=True)]
            context.counts.update({name: count for name, count in zip(names, spent, strict=True) if count})
        return {"answers": made.table}

    return Stage(
        asset="answers",
        tables=("answers",),
        version=ANSWER_VERSION,
        parameters={
            "asker": asker,
            "model": spec.model if spec.weights is None else None,
            "prompt": spec.form(()).prompt.identity(spec.shown),
            "wants": sorted(spec.wants),
            **_said(spec, "input", "label_form", "controls", "draws", "orders", "paraphrases", "repeats"),
            **_said(spec, "temperature", "top_p", "max_tokens", "seed"),
            **_asked(spec, folds),
        },
        inputs=(
            Input("clips", folds="all" if spec.shots else "same"),
            *_shown_inputs(spec),
            *_controlled_inputs(spec),
            *few_shot,
            *weights,
        ),
        run=run,
        description=f"What {spec.model} says, raw: summed log-probabilities of every class's answer (natural logarithm) "
        "and generated text, with tokens, s and USD.",
        folds=spec.folds,
        accelerator=spec.accelerator,
        unavailable=spec.unavailable,
        cost=spec.cost,
        paid=spec.paid,
    )


def predictions_stage(spec: "LanguageModel", name: str, folds: Folds) -> Stage:
    """Give the stage that reads answers: normalised, calibrated, parsed; and asks the matched baseline."""
    fitted = "temperature" in spec.calibrate
    few_shot = (Input("examples", name), Input("embeddings", spec.encoder, folds="all")) if spec.shots else ()

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, fold = context.inputs["clips"], int(context.fold or 0)
        queries = spec.queries(clips, fold, folds)
        answers = context.inputs[f"answers/{name}"]
        here = pc.equal(answers["fold"], fold)
        constants = {
            "kind": spec.kind,
            "rendering": spec.rendering,
            "prompt": spec.form(context.classes).prompt.name,
            "shots": spec.shots,
            "training_clips": spec.shots * len(context.classes),
        }
        made = [
            predictions_of(
                answers.filter(here),
                clips,
                context.classes,
                normalise=spec.normalise,
                calibrate=spec.calibrate,
                other_answers=answers.filter(pc.invert(here)),
                synonyms=spec.synonyms,
                **constants,
            )
        ]
        if spec.shots and queries.num_rows:
            embeddings = context.inputs[f"embeddings/{spec.encoder}"]
            vectors = aligned(clips, embeddings, str(spec.encoder))
            shown = context.inputs[f"examples/{name}"]
            own = {k: v for k, v in constants.items() if k != "training_clips"}
            about = {**own, "encoder": spec.encoder, "rendering": None, "prompt": None, **model_of(embeddings)}
            made.append(
                matched_predictions(
                    shown, clips, vectors, fold, context.classes, queries, k=spec.shots, **_without_nulls(about)
                )
            )
        return {"predictions": pa.concat_tables(made, promote_options="default")}

    return Stage(
        asset="predictions",
        tables=("predictions",),
        version=3,  # of the parser too: raise it when an answer is read otherwise
        parameters={
            **_said(spec, "normalise", "calibrate", "rendering", "prompt", "shots", "encoder", "label_form"),
            "synonyms": {label: list(words) for label, words in sorted(spec.synonyms.items())},
            **_asked(spec, folds),
        },
        inputs=(
            Input("clips", folds="all" if spec.shots or fitted else "same"),
            Input("answers", name, folds="all" if fitted else "same"),
            *few_shot,
        ),
        run=run,
        description="Labels read from the answers: the likeliest class, and the class the text names; never guessed."
        + (" Beside them k-NN on the very same examples." if spec.shots else ""),
        folds=spec.folds,
    )


def _tokens(backend: Backend) -> tuple[int, int]:
    """Give what a backend has computed so far, and what a loop without sharing would have; zeros where it does not count."""
    counted = getattr(backend, "tokens", None)
    return (counted.computed, counted.naive) if counted is not None else (0, 0)


def _said(spec: "LanguageModel", *fields: str) -> dict[str, Any]:
    """Give some of a study's words, without those that equal their default."""
    return spec.model_dump(mode="json", include=set(fields), exclude_defaults=True)


def _asked(spec: "LanguageModel", folds: Folds) -> dict[str, Any]:
    """Give which clips are asked about, where not all are."""
    if spec.sample is None:
        return {}
    return {"sample": spec.sample.model_dump(mode="json"), "asked": sorted(spec.folds or folds)}


def _shown_inputs(spec: "LanguageModel") -> tuple[Input, ...]:
    if spec.rendering is None:
        return ()
    return (Input("spectrograms", spec.rendering, folds="all" if spec.shots else "same"),)


def _controlled_inputs(spec: "LanguageModel") -> tuple[Input, ...]:
    if spec.rendering is None:
        return ()
    return tuple(Input("spectrograms", f"{spec.rendering}__{c}") for c in spec.controls if c != NO_IMAGE)


def _lookup(spec: "LanguageModel", context: StageContext, real: set[str], queries: set[str]) -> Lookup:
    if spec.rendering is None:
        return sounds(context.dataset, context.inputs["clips"].to_pylist(), int(context.fold or 0))
    tables = {"none": context.inputs[f"spectrograms/{spec.rendering}"]}
    needed = {"none": real}
    for control in spec.controls:
        if control != NO_IMAGE:
            tables[control] = context.inputs[f"spectrograms/{spec.rendering}__{control}"]
            needed[control] = queries
    return pictures(tables, needed)


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
