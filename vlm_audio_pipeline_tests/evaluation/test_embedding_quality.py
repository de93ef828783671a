import itertools

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_rand_score, average_precision_score, normalized_mutual_info_score, silhouette_score
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.evaluation.embedding_quality import claim_of, embedding_quality_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.running import embeddings_table, toy


def measured(clips, x):
    table = embedding_quality_table(clips, embeddings_table(clips, x))
    rows = TABLES["embedding_quality"].conform(table, study="s", encoder="e").to_pylist()
    return {r["measure"]: r for r in rows}


def column(table, name, values):
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def own_sources(clips):
    return column(clips, "source", clips["clip"].to_pylist())


def test_silhouette_and_clusters_are_those_of_scikit_learn():
    data, clips, x = toy(apart=0.8)
    found = measured(clips, x)
    labels, z = clips["label"].to_pylist(), StandardScaler().fit_transform(x.astype(float))
    assert found["silhouette"]["value"] == pytest.approx(silhouette_score(z, labels, metric="cosine"), abs=1e-12)
    # the best of all ways to part 90 clips by 3 centres is known where the classes lie far apart: the classes themselves
    far = measured(clips, toy(apart=30)[2])
    assert (far["nmi"]["value"], far["ari"]["value"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert 0 < found["ari"]["value"] < found["nmi"]["value"] < 1
    assert found["silhouette"]["clips"] == found["nmi"]["clips"] == len(data.clips) == 90
    assert found["ari"]["chance"] == 0 and found["nmi"]["chance"] is None


def test_clusters_that_cut_across_classes_by_hand():
    # a line of two heaps; three of four "a" lie in the left one, one "a" in the right one with all four "b"
    _, clips, _ = toy(n_folds=2, per_class=2, classes=("a", "b"))
    left = [1 if c.startswith(("1-a", "2-a")) and c != "2-a-01" else -1 for c in clips["clip"].to_pylist()]
    x = np.array(left, float)[:, None] + np.linspace(0, 0.01, 8)[:, None]
    found = measured(clips, np.hstack([x, x]))
    labels = clips["label"].to_pylist()
    # table [[3, 1], [0, 4]]: pairs together in both 3 + 6 = 9; in classes 6 + 6, in clusters 3 + 10; of 28 pairs
    expected = 12 * 13 / 28
    assert found["ari"]["value"] == pytest.approx((9 - expected) / ((12 + 13) / 2 - expected))
    assert found["ari"]["value"] == pytest.approx(adjusted_rand_score(labels, left))
    assert found["nmi"]["value"] == pytest.approx(normalized_mutual_info_score(labels, left))


def test_retrieval_by_hand():
    _, clips, _ = toy(n_folds=1, per_class=3, classes=("a", "b"))  # a00 a01 a02 b00 b01 b02
    clips = column(own_sources(clips), "source", ["s", "s", "2", "3", "4", "5"])
    angles = np.radians([0, 5, 60, 20, 180, 200])
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    z = StandardScaler().fit_transform(x.astype(np.float32).astype(float))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels, sources = np.array(list("aaabbb")), np.array(clips["source"].to_pylist())
    precisions, firsts, purity = [], [], []
    for i in range(6):
        others = sources != sources[i]
        hits = labels[others] == labels[i]
        precisions.append(average_precision_score(hits, (z @ z[i])[others]))
        ranked = hits[np.argsort(-(z @ z[i])[others])]
        firsts.append(np.argmax(ranked))
        purity.append(ranked[:5].mean())
    found = measured(clips, x)
    assert found["map"]["value"] == pytest.approx(np.mean(precisions))
    assert found["knn_purity"]["value"] == pytest.approx(np.mean(purity))
    for k in (1, 5, 10):
        assert found[f"r_at_{k}"]["value"] == np.mean(np.array(firsts) < k)
    assert found["map"]["clips"] == 6
    assert "same source left out" in found["map"]["method"]


def test_a_sibling_is_never_found():
    _, clips, _ = toy(n_folds=2, per_class=2, classes=("a", "b"))  # two clips a source, a source a fold and class
    x = np.random.default_rng(1).standard_normal((4, 6)).repeat(2, axis=0)  # siblings alike, all else random
    assert measured(own_sources(clips), x)["r_at_1"]["value"] == 1.0
    honest = measured(clips, x)["r_at_1"]["value"]
    one_each = measured(clips.take(pa.array([0, 2, 4, 6])), x[::2])["r_at_1"]["value"]
    assert honest == one_each < 1


def test_chance_is_the_mean_over_all_orders():
    _, clips, x = toy(n_folds=1, per_class=3, classes=("a", "b"))
    found = measured(own_sources(clips), x)
    # each clip has 5 candidates, 2 of its class: every one of the 10 places of two hits among five is equally likely
    places = list(itertools.combinations(range(1, 6), 2))
    assert found["map"]["chance"] == pytest.approx(np.mean([(1 / i + 2 / j) / 2 for i, j in places]))
    assert found["r_at_1"]["chance"] == pytest.approx(np.mean([i == 1 for i, _ in places])) == pytest.approx(0.4)
    assert found["r_at_5"]["chance"] == 1.0
    assert found["knn_purity"]["chance"] == pytest.approx(2 / 5)


def test_vectors_that_know_nothing_are_at_chance():
    rng = np.random.default_rng(0)
    _, clips, _ = toy(n_folds=5, per_class=20, classes=("a", "b", "c"))  # 300 clips
    found = measured(clips, rng.standard_normal((300, 16)))
    # 300 queries, so a standard error of about 0.03 for r_at_1; the others vary less
    for name, tolerance in {"map": 0.02, "knn_purity": 0.05, "r_at_1": 0.1}.items():
        assert found[name]["value"] == pytest.approx(found[name]["chance"], abs=tolerance)
    assert abs(found["ari"]["value"]) < 0.03 and abs(found["silhouette"]["value"]) < 0.03


def test_what_is_undefined_says_why():
    _, clips, x = toy(n_folds=2, per_class=2, classes=("a", "b"))
    everything = {r["measure"] for r in measured(clips, x).values()}
    for said, table, vectors in (
        ("no clip has a vector yet", clips.slice(0, 0), x[:0]),
        ("all clips are of one class", clips.take(pa.array([0, 1, 4, 5])), x[:4]),
        ("all vectors are the same", clips, np.ones_like(x)),
    ):
        found = measured(table, vectors)
        assert set(found) == everything
        assert {(r["value"], r["chance"], r["reason"]) for r in found.values()} == {(None, None, said)}
    # one class a source: nothing of the class is left once the source is taken out
    alone = column(clips, "source", clips["label"].to_pylist())
    found = measured(alone, x)
    assert (found["map"]["value"], found["map"]["clips"]) == (None, 0)
    assert found["map"]["reason"] == "no class has clips of two sources"
    assert found["silhouette"]["value"] is not None
    pair = clips.take(pa.array([0, 2]))
    assert measured(pair, x[:2])["silhouette"]["reason"] == "every class has one clip alone"


def test_folds_without_vectors_and_clips_without_rows_are_left_out():
    _, clips, x = toy(n_folds=3)
    some = embeddings_table(clips, x).slice(5, 40)
    found = embedding_quality_table(clips.slice(10, 60), some)
    assert set(found["clips"].to_pylist()) == {35}  # 10 to 45 of both


def test_the_claim_stands_beside_every_number():
    assert "99.25 %" in claim_of("laion/clap-htsat-unfused")
    assert "unsafe" in claim_of("apple/aimv2-large-patch14-224")
    assert "no number" in claim_of("music2latent")
    assert claim_of("features") is claim_of(None) is None
