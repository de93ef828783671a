import numpy as np
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.classifiers.zero_shot import ZeroShot
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.encoders.scripted import Scripted
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.scripted_encoders import ImageTextEncoder, ScriptedTextEncoder
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, dataset, embeddings_table, run_fold

CLASSES = ("rain", "sea_waves")
TEXT_VECTORS = {"This is a sound of rain.": (1.0, 0.0), "This is a sound of sea_waves.": (0.0, 1.0)}
LISTED = [Clip("a", "rain", 1, "s1", ""), Clip("b", "sea_waves", 1, "s2", ""), Clip("c", "rain", 2, "s3", "")]


@pytest.fixture
def rows(tmp_path):
    return ResultStore(tmp_path / "results.sqlite")


def predict(spec, rows, encoder, x, fold=1, **more):
    """Return the predictions of a fold; x contains the vectors of clips a, b and c."""
    clips = clips_table(LISTED)
    tables = {"clips": clips, "embeddings/e": embeddings_table(clips, np.array(x))}
    tables |= {f"embeddings/e__{c}": embeddings_table(clips, np.array(v)) for c, v in more.items()}
    predictions = run_fold(spec, "z", fold, dataset(LISTED, CLASSES), tables, {"e": encoder}, rows)
    return predictions["predictions"].to_pylist()


def test_scores_are_the_softmax_of_scaled_cosines(rows):
    encoder = ScriptedTextEncoder(vectors=TEXT_VECTORS, scale=10.0)
    a, b = predict(ZeroShot(encoder="e"), rows, encoder, [[3.0, 4.0], [0.0, 0.5], [1.0, 0.0]])
    # a: length 5, so cosines 0.6 and 0.8; times 10: 6 and 8; softmax: 1 / (1 + e^2) = 0.119203 and 0.880797
    assert dict(a["scores"]) == pytest.approx({"rain": 0.1192029, "sea_waves": 0.8807971}, abs=1e-7)
    assert (a["predicted"], a["correct"], a["outcome"]) == ("sea_waves", False, "answered")
    # b: cosines 0 and 1; 1 / (1 + e^10) = 4.539787e-05
    assert dict(b["scores"]) == pytest.approx({"rain": 4.539787e-5, "sea_waves": 1 - 4.539787e-5}, abs=1e-9)
    assert b["confidence"] == dict(b["scores"])["sea_waves"]
    assert (a["kind"], a["encoder"], a["model"], a["training_clips"]) == ("zero_shot", "e", "toy", 0)
    assert (a["scoring"], a["control"], a["trial"]) == ("score", "none", 0)


def test_a_temperature_of_the_study_replaces_that_of_the_model(rows):
    # cosines 0.6 and 0.8 over 0.5: 1.2 and 1.6; 1 / (1 + e^0.4) = 0.401312
    [a, _] = predict(
        ZeroShot(encoder="e", temperature=0.5),
        rows,
        ScriptedTextEncoder(vectors=TEXT_VECTORS),
        [[3.0, 4.0], [0, 1], [1, 0]],
    )
    assert dict(a["scores"])["rain"] == pytest.approx(0.4013123, abs=1e-7)


def test_a_zero_vector_gives_equal_scores(rows):
    [a, _] = predict(
        ZeroShot(encoder="e"), rows, ScriptedTextEncoder(vectors=TEXT_VECTORS), [[0.0, 0.0], [0, 1], [1, 0]]
    )
    assert dict(a["scores"]) == {"rain": 0.5, "sea_waves": 0.5}


def test_templates_are_averaged_as_vectors(rows):
    vectors = {"rain!": (1.0, 0.0), "rain?": (0.0, 1.0), "sea waves!": (0.0, 2.0), "sea waves?": (0.0, 1.0)}
    spec = ZeroShot(encoder="e", templates=("{label}!", "{}?"), label_form="human", temperature=1)
    # rain: the mean of (1, 0) and (0, 1) is (1/2, 1/2), at length 1 (0.7071, 0.7071); sea waves: (0, 1), each text
    # counting alike whatever its length. The clip (1, 0) has cosines 0.7071 and 0; 1 / (1 + e^-0.7071) = 0.669761
    [a, _] = predict(spec, rows, ScriptedTextEncoder(vectors=vectors), [[1.0, 0.0], [0, 1], [1, 0]])
    assert dict(a["scores"])["rain"] == pytest.approx(0.6697615, abs=1e-7)


def test_the_texts_of_each_label_form():
    def texts(**values):
        return ZeroShot(encoder="e", **values).texts(("crying_baby",))[0]

    assert texts() == ["This is a sound of crying_baby."]
    assert texts(label_form="human") == ["This is a sound of crying baby."]
    described = "A baby cries in long, high, harmonic wails separated by breaths."
    assert texts(label_form="description") == [described]  # a sentence is not put into a template by default
    assert texts(label_form="description", template="Sound: {}") == [f"Sound: {described}"]
    assert ZeroShot(encoder="e").texts(("{}", "a{label}")) == [
        ["This is a sound of {}."],
        ["This is a sound of a{label}."],
    ]


def test_texts_are_embedded_once_per_revision(rows):
    first = ScriptedTextEncoder(vectors=TEXT_VECTORS)
    x = [[3.0, 4.0], [0, 1], [1, 0]]
    before = predict(ZeroShot(encoder="e"), rows, first, x)
    assert first.encoded == list(TEXT_VECTORS)
    without_vectors = ScriptedTextEncoder(
        vectors={}, encoded=[]
    )  # knows no text: what it is asked must come from the result store
    assert (
        predict(ZeroShot(encoder="e"), rows, without_vectors, x, fold=2)
        and predict(ZeroShot(encoder="e"), rows, without_vectors, x) == before
    )
    assert without_vectors.encoded == []
    second_revision = ScriptedTextEncoder(
        vectors={t: v[::-1] for t, v in TEXT_VECTORS.items()}, revision="r2", encoded=[]
    )
    assert predict(ZeroShot(encoder="e"), rows, second_revision, x)[0]["predicted"] == "rain"


def test_parameters_contain_the_identity_of_the_text_encoder():
    def version(encoder, **values):
        [stage] = ZeroShot(encoder="e", **values).stages("z", (1, 2), {"e": encoder})
        return fingerprint(dict(stage.parameters))

    assert (
        version(ScriptedTextEncoder())
        == version(ScriptedTextEncoder(batch_size=3))
        == version(ScriptedTextEncoder(), template="This is a sound of {label}.")
    )
    assert version(ScriptedTextEncoder()) != version(ImageTextEncoder())
    assert version(ScriptedTextEncoder()) != version(ScriptedTextEncoder(), label_form="human")
    assert version(ScriptedTextEncoder()) == version(ScriptedTextEncoder(), folds=(1,))


def test_missing_weights_are_reported_by_the_stage():
    [stage] = ZeroShot(encoder="e").stages("z", (1,), {"e": ScriptedTextEncoder(missing=True)})
    assert stage.unavailable() == "weights of text_encoder missing"
    assert [i.key for i in stage.inputs] == ["clips", "embeddings/e"]


def test_another_revision_of_the_weights_embeds_the_texts_again():
    from vlm_audio_pipeline.encoders.clap import Clap

    clap = Clap(model="org/clap")
    [stage] = ZeroShot(encoder="e").stages("z", (1,), {"e": clap})
    assert clap.weights.input_asset in stage.inputs, "its data version is the revision"


def test_an_encoder_without_a_text_encoder_is_refused():
    with pytest.raises(BadStudy, match=r"classifiers\.z\.encoder: .* got 'e' of kind scripted .*; this study has f"):
        ZeroShot(encoder="e").stages("z", (1,), {"e": Scripted(), "f": ScriptedTextEncoder()})
    with pytest.raises(BadStudy, match=r"classifiers\.z\.encoder: must name .* got 'e'; did you mean 'ee'"):
        ZeroShot(encoder="e").stages("z", (1,), {"ee": ScriptedTextEncoder()})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"template": "a sound"}, r"write \{label\}"),
        ({"templates": ("{label}", "{labels}")}, r"got '\{labels\}'"),
        ({"template": "{}!", "templates": ("{}",)}, "only one of template and templates"),
        ({"label_form": "spoken"}, "label_form"),
        ({"temperature": 0}, "temperature"),
        ({"controls": ("upside_down",)}, "controls"),
    ],
)
def test_invalid_parameters_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        ZeroShot(encoder="e", **wrong)


def test_controls_have_their_own_rows(rows):
    encoder, original = ImageTextEncoder(vectors=TEXT_VECTORS), [[3.0, 4.0], [0, 1], [1, 0]]
    spec = ZeroShot(encoder="e", controls=("blank",))
    predictions = predict(spec, rows, encoder, original, blank=[[4.0, 3.0], [1, 0], [0, 1]])
    assert [(r["control"], r["clip"], r["predicted"]) for r in predictions] == [
        ("blank", "a", "rain"),
        ("blank", "b", "rain"),
        ("none", "a", "sea_waves"),
        ("none", "b", "sea_waves"),
    ]
    alone = predict(ZeroShot(encoder="e"), rows, encoder, original)
    assert [r for r in predictions if r["control"] == "none"] == alone, "a control does not change the other rows"


def test_scores_equal_those_of_the_transformers_pipeline(monkeypatch, rows, tmp_path):
    """Labels, template and audio in the zero-shot-audio-classification pipeline of transformers and in our stages."""
    import librosa
    from transformers import ClapFeatureExtractor, ClapModel, RobertaTokenizer, pipeline

    from vlm_audio_pipeline.encoders.clap import Clap
    from vlm_audio_pipeline_tests.encoders.checkpoints import CLAP, checkpoint, publish

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    publish(tmp_path, CLAP, checkpoint(CLAP))
    encoder = Clap(model=CLAP, device="cpu")
    rng = np.random.default_rng(0)
    audio_clips = [(rng.standard_normal(48000 * s) * 0.1).astype(np.float32) for s in (1, 2, 4)]
    audio_clips[1] = librosa.tone(440, sr=48000, length=96000).astype(np.float32)
    folder = encoder.weights.snapshot()
    reference_pipeline = pipeline(
        "zero-shot-audio-classification",
        model=ClapModel.from_pretrained(folder),
        tokenizer=RobertaTokenizer.from_pretrained(folder),
        feature_extractor=ClapFeatureExtractor.from_pretrained(folder),
        device="cpu",
    )
    listed = [Clip(str(i), ESC10[i], 1, str(i), "") for i in range(3)]
    clips = clips_table(listed)
    tables = {"clips": clips, "embeddings/e": embeddings_table(clips, np.stack(encoder.load()(audio_clips)))}
    for values in ({}, {"template": "{label}, as it is heard", "label_form": "human"}):
        spec = ZeroShot(encoder="e", **values)
        names = [label.replace("_", " ") if values else label for label in ESC10]
        predictions = run_fold(spec, "z", 1, dataset(listed, ESC10), tables, {"e": encoder}, rows)[
            "predictions"
        ].to_pylist()
        for audio_clip, row in zip(audio_clips, predictions, strict=True):
            template = {"hypothesis_template": spec.template.replace("{label}", "{}")} if values else {}
            expected = {
                r["label"]: r["score"] for r in reference_pipeline(audio_clip, candidate_labels=names, **template)
            }
            ours = dict(zip(names, (dict(row["scores"])[label] for label in ESC10), strict=True))
            assert ours == pytest.approx(expected, abs=1e-4)
            assert np.ptp(list(ours.values())) > 1e-3, "the labels have different scores"


def test_registered():
    assert CLASSIFIERS.get("zero_shot") is ZeroShot
