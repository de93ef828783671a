import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.classifiers.language_models.examples import permute_labels
from vlm_audio_pipeline.classifiers.language_models.few_shot_knn_baseline import few_shot_knn_predictions
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.language_models.test_examples import (
    CLASSES,
    STRATEGIES,
    choose,
    clips_of_fold,
)
from vlm_audio_pipeline_tests.classifiers.stage_runner import gaussian_blobs


@pytest.mark.parametrize("select", STRATEGIES)
@pytest.mark.parametrize("k", [1, 3])
def test_the_baseline_equals_k_nn_of_scikit_learn_on_the_same_examples(select, k):
    _, clips, x = gaussian_blobs(separation=1.0)
    queries, shots = clips_of_fold(clips, 2), 3
    examples = pa.concat_tables(
        choose(
            clips, fold=2, shots=shots, select=select, vectors=x, draw=d, trial=d, queries=queries["clip"].to_pylist()
        )
        for d in (0, 1)
    )
    predictions = few_shot_knn_predictions(
        examples, clips, x, 2, CLASSES, queries, k=k, kind="language_model", encoder="e", shots=shots
    )
    predictions = TABLES["predictions"].conform(predictions, study="s", classifier="c", fold=2)
    assert set(predictions["scoring"].to_pylist()) == {"examples_knn"}
    assert predictions.num_rows == 2 * queries.num_rows
    assert set(predictions["training_clips"].to_pylist()) == {shots * len(CLASSES)}
    train = clips["fold"].to_numpy() != 2
    z = StandardScaler().fit(x[train].astype(float)).transform(x.astype(float))
    at = clips["clip"].to_pylist()
    clear_rows = 0
    for row in predictions.to_pylist():
        row_examples = examples.filter(pc.equal(examples["trial"], row["trial"]))
        if select == "nearest":
            row_examples = row_examples.filter(pc.equal(row_examples["query"], row["clip"]))
        training = [at.index(c) for c in row_examples["clip"].to_pylist()]
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(
            z[training], row_examples["label"].to_pylist()
        )
        expected = dict(zip(model.classes_, model.predict_proba(z[[at.index(row["clip"])]])[0], strict=True))
        assert dict(row["scores"]) == pytest.approx(expected, abs=1e-6)
        if sorted(expected.values())[-1] > sorted(expected.values())[-2]:
            clear_rows += 1
            assert row["predicted"] == max(expected, key=expected.get)
    # with k = 1 no two classes tie; with k = 3 the three neighbours may be of three classes
    assert clear_rows == predictions.num_rows or (k == 3 and clear_rows > 0)


def test_with_permuted_labels_the_baseline_uses_the_labels_of_the_prompt():
    _, clips, x = gaussian_blobs(separation=50.0)  # far apart: the nearest example always has the class of the query
    queries = clips_of_fold(clips, 1)
    examples = choose(clips, permuted_labels=True, select="medoid", vectors=x)
    predictions = few_shot_knn_predictions(examples, clips, x, 1, CLASSES, queries, k=1, kind="language_model")
    names = permute_labels(CLASSES, 0, 0)
    assert predictions["predicted"].to_pylist() == [names[label] for label in queries["label"].to_pylist()]
    assert not any(predictions["correct"].to_pylist())


def test_a_query_without_examples_is_refused():
    _, clips, x = gaussian_blobs()
    queries = clips_of_fold(clips, 1)
    examples = choose(clips, select="nearest", vectors=x, queries=queries["clip"].to_pylist()[1:])
    with pytest.raises(VlmAudioError, match="needs a training clip"):
        few_shot_knn_predictions(examples, clips, x, 1, CLASSES, queries, k=1, kind="language_model")
