"""Controls of probes and k-NN: fitted on original images, applied to controlled ones."""

import numpy as np
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.knn import NearestNeighbours
from vlm_audio_pipeline.classifiers.probe import Probe
from vlm_audio_pipeline.classifiers.zero_shot import ZeroShot
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.stages import Input
from vlm_audio_pipeline_tests.classifiers.scripted_encoders import ImageTextEncoder, ScriptedTextEncoder
from vlm_audio_pipeline_tests.classifiers.stage_runner import embeddings_table, gaussian_blobs, run_fold

ENCODERS = {"e": ImageTextEncoder()}


def tables(clips, x, **controlled):
    with_controls = {"clips": clips, "embeddings/e": embeddings_table(clips, x)}
    return with_controls | {f"embeddings/e__{control}": embeddings_table(clips, v) for control, v in controlled.items()}


def rows_of_control(predictions, control):
    return predictions.filter(pc.equal(predictions["control"], control)).drop_columns(["control", "shown_label"])


@pytest.mark.parametrize("spec", [Probe(encoder="e", c=1.0), NearestNeighbours(encoder="e")], ids=lambda s: s.kind)
def test_training_clips_keep_their_images_and_queries_are_controlled(spec):
    data, clips, x = gaussian_blobs(separation=6)  # so far apart that no class is confused
    shifted = np.roll(
        x, 6, axis=0
    )  # 6 clips per class and fold: each clip gets the vector of a clip of the previous class
    both = spec.model_copy(update={"controls": ("blank", "other_clip")})
    inputs = tables(clips, x, blank=np.zeros_like(x), other_clip=shifted)
    for fold in data.folds:
        with_controls = run_fold(both, "p", fold, data, inputs, ENCODERS)["predictions"]
        alone = run_fold(spec, "p", fold, data, inputs, ENCODERS)["predictions"]
        assert rows_of_control(with_controls, "none").equals(alone.drop_columns(["control", "shown_label"])), (
            "a control does not change the other rows"
        )
        assert all(rows_of_control(with_controls, "none")["correct"].to_pylist())
        # the vectors belong to other classes, so no prediction is correct; the chance level is one third
        assert not any(rows_of_control(with_controls, "other_clip")["correct"].to_pylist())
        blank = rows_of_control(with_controls, "blank")
        assert len(set(blank["predicted"].to_pylist())) == 1, "one vector gives one prediction"
        assert blank.num_rows == alone.num_rows
        shown = dict(zip(with_controls["control"].to_pylist(), with_controls["shown_label"].to_pylist(), strict=True))
        assert (shown["none"], shown["blank"]) == (None, None) and shown["other_clip"] in data.classes
        # the same as with the controlled vectors in the fold itself and the same training folds
        swapped = np.where((clips["fold"].to_numpy() == fold)[:, None], shifted, x)
        direct = run_fold(spec, "p", fold, data, tables(clips, swapped), ENCODERS)["predictions"]
        assert rows_of_control(with_controls, "other_clip").equals(direct.drop_columns(["control", "shown_label"]))


def test_probes_are_not_fitted_again_for_a_control():
    plain, controlled = (Probe(encoder="e", controls=c).stages("p", (1, 2), ENCODERS) for c in ((), ("blank",)))
    assert plain[0].parameters == controlled[0].parameters and plain[0].inputs == controlled[0].inputs
    assert plain[1].parameters != controlled[1].parameters


def test_inputs_come_from_the_correct_folds():
    [stage] = NearestNeighbours(encoder="e", controls=("blank",)).stages("n", (1, 2), ENCODERS)
    assert stage.inputs[1:] == (Input("embeddings", "e", folds="all"), Input("embeddings", "e__blank", folds="same"))
    predictions = Probe(encoder="e", controls=("time_shuffled",)).stages("p", (1, 2), ENCODERS)[1]
    assert predictions.inputs[-1] == Input("embeddings", "e__time_shuffled", folds="same")


@pytest.mark.parametrize("classifier", [Probe, NearestNeighbours, ZeroShot])
def test_controls_need_an_image_encoder_and_are_named_once(classifier):
    with pytest.raises(
        BadStudy, match=r"classifiers\.p\.controls: .* of images, got \['blank'\] with encoder 'e' of kind text_encoder"
    ):
        classifier(encoder="e", controls=("blank",)).stages("p", (1, 2), {"e": ScriptedTextEncoder()})
    with pytest.raises(ValidationError, match=r"each value must occur only once, got \['blank', 'blank'\]"):
        classifier(encoder="e", controls=("blank", "blank"))
    assert classifier(encoder="e").stages("p", (1, 2), {"e": ScriptedTextEncoder()})
