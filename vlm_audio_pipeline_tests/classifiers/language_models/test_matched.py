import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.classifiers.language_models.examples import derangement
from vlm_audio_pipeline.classifiers.language_models.matched import matched_predictions
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.language_models.test_examples import CLASSES, STRATEGIES, choose, here
from vlm_audio_pipeline_tests.classifiers.running import toy


@pytest.mark.parametrize("select", STRATEGIES)
@pytest.mark.parametrize("k", [1, 3])
def test_the_matched_baseline_is_scikit_learns_knn_on_the_very_same_examples(select, k):
    _, clips, x = toy(apart=1.0)
    queries, shots = here(clips, 2), 3
    shown = pa.concat_tables(
        choose(
            clips, fold=2, shots=shots, select=select, vectors=x, draw=d, trial=d, queries=queries["clip"].to_pylist()
        )
        for d in (0, 1)
    )
    made = matched_predictions(
        shown, clips, x, 2, CLASSES, queries, k=k, kind="language_model", encoder="e", shots=shots
    )
    made = TABLES["predictions"].conform(made, study="s", classifier="c", fold=2)
    assert set(made["scoring"].to_pylist()) == {"examples_knn"}
    assert made.num_rows == 2 * queries.num_rows
    assert set(made["training_clips"].to_pylist()) == {shots * len(CLASSES)}
    train = clips["fold"].to_numpy() != 2
    z = StandardScaler().fit(x[train].astype(float)).transform(x.astype(float))
    at = clips["clip"].to_pylist()
    for row in made.to_pylist():
        mine = shown.filter(pc.equal(shown["trial"], row["trial"]))
        if select == "nearest":
            mine = mine.filter(pc.equal(mine["query"], row["clip"]))
        learnt = [at.index(c) for c in mine["clip"].to_pylist()]
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(z[learnt], mine["label"].to_pylist())
        theirs = dict(zip(model.classes_, model.predict_proba(z[[at.index(row["clip"])]])[0], strict=True))
        assert dict(row["scores"]) == pytest.approx(theirs, abs=1e-6)
        if sorted(theirs.values())[-1] > sorted(theirs.values())[-2]:
            assert row["predicted"] == max(theirs, key=theirs.get)


def test_under_permuted_labels_the_baseline_learns_what_is_shown():
    _, clips, x = toy(apart=50.0)  # far apart: the nearest example is always of the query's class
    queries = here(clips, 1)
    shown = choose(clips, permuted_labels=True, select="medoid", vectors=x)
    made = matched_predictions(shown, clips, x, 1, CLASSES, queries, k=1, kind="language_model")
    names = derangement(CLASSES, 0, 0)
    assert made["predicted"].to_pylist() == [names[label] for label in queries["label"].to_pylist()]
    assert not any(made["correct"].to_pylist())


def test_a_query_without_examples_is_refused():
    _, clips, x = toy()
    queries = here(clips, 1)
    shown = choose(clips, select="nearest", vectors=x, queries=queries["clip"].to_pylist()[1:])
    with pytest.raises(VlmAudioError, match="must have a labelled clip"):
        matched_predictions(shown, clips, x, 1, CLASSES, queries, k=1, kind="language_model")
