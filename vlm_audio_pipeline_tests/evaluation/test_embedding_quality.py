import itertools

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.embedding_quality import claim_of, clip_means, embedding_quality_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import embeddings_table, gaussian_blobs


def measures(clips, x):
    table = embedding_quality_table(clips, embeddings_table(clips, x))
    rows = TABLES["embedding_quality"].conform(table, study="s", encoder="e").to_pylist()
    return {r["measure"]: r for r in rows}


def replace_column(table, name, column):
    return table.set_column(table.column_names.index(name), name, pa.array(column))


def one_source_each(clips):
    return replace_column(clips, "source", clips["clip"].to_pylist())


def test_silhouette_and_clusters_equal_scikit_learn():
    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import StandardScaler

    data, clips, x = gaussian_blobs(separation=0.8)
    values = measures(clips, x)
    labels, z = clips["label"].to_pylist(), StandardScaler().fit_transform(x.astype(float))
    assert values["silhouette"]["value"] == pytest.approx(silhouette_score(z, labels, metric="cosine"), abs=1e-12)
    # where the classes are far apart, the best clusters of 90 clips are the classes themselves
    separated = measures(clips, gaussian_blobs(separation=30)[2])
    assert (separated["nmi"]["value"], separated["ari"]["value"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert 0 < values["ari"]["value"] < values["nmi"]["value"] < 1
    assert values["silhouette"]["clips"] == values["nmi"]["clips"] == len(data.clips) == 90
    assert values["ari"]["chance"] == values["ami"]["chance"] == 0 and values["nmi"]["chance"] is None
    for name in ("nmi", "ami", "ari"):
        assert values[name]["seed_low"] <= values[name]["value"] <= values[name]["seed_high"]
    assert values["silhouette"]["seed_low"] is None
    assert values["silhouette"]["low"] < values["silhouette"]["value"] < values["silhouette"]["high"]


def test_clusters_that_do_not_match_the_classes_by_hand():
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    # two clusters on a line: three of four "a" in the left one, one "a" and all four "b" in the right one
    _, clips, _ = gaussian_blobs(n_folds=2, per_class=2, classes=("a", "b"))
    left = [1 if c.startswith(("1-a", "2-a")) and c != "2-a-01" else -1 for c in clips["clip"].to_pylist()]
    x = np.array(left, float)[:, None] + np.linspace(0, 0.01, 8)[:, None]
    values = measures(clips, np.hstack([x, x]))
    labels = clips["label"].to_pylist()
    # table [[3, 1], [0, 4]]: pairs together in both 3 + 6 = 9; in classes 6 + 6, in clusters 3 + 10; of 28 pairs
    expected = 12 * 13 / 28
    assert values["ari"]["value"] == pytest.approx((9 - expected) / ((12 + 13) / 2 - expected))
    assert values["ari"]["value"] == pytest.approx(adjusted_rand_score(labels, left))
    assert values["nmi"]["value"] == pytest.approx(normalized_mutual_info_score(labels, left))


def test_retrieval_by_hand():
    from sklearn.metrics import average_precision_score
    from sklearn.preprocessing import StandardScaler

    _, clips, _ = gaussian_blobs(n_folds=1, per_class=3, classes=("a", "b"))  # a00 a01 a02 b00 b01 b02
    clips = replace_column(one_source_each(clips), "source", ["s", "s", "2", "3", "4", "5"])
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
    values = measures(clips, x)
    assert values["map"]["value"] == pytest.approx(np.mean(precisions))
    assert values["knn_purity"]["value"] == pytest.approx(np.mean(purity))
    for k in (1, 5, 10):
        assert values[f"r_at_{k}"]["value"] == np.mean(np.array(firsts) < k)
    assert values["map"]["clips"] == 6
    assert "same source left out" in values["map"]["method"]


def test_retrieval_leaves_out_clips_of_the_query_source():
    _, clips, _ = gaussian_blobs(
        n_folds=2, per_class=2, classes=("a", "b")
    )  # two clips a source, a source a fold and class
    x = (
        np.random.default_rng(1).standard_normal((4, 6)).repeat(2, axis=0)
    )  # clips of one source are equal, all else random
    assert measures(one_source_each(clips), x)["r_at_1"]["value"] == 1.0
    across_sources = measures(clips, x)["r_at_1"]["value"]
    one_each = measures(clips.take(pa.array([0, 2, 4, 6])), x[::2])["r_at_1"]["value"]
    assert across_sources == one_each < 1


def test_chance_is_the_mean_over_all_orders():
    _, clips, x = gaussian_blobs(n_folds=1, per_class=3, classes=("a", "b"))
    values = measures(one_source_each(clips), x)
    # each clip has 5 candidates, 2 of its class: every one of the 10 places of two hits among five is equally likely
    rank_pairs = list(itertools.combinations(range(1, 6), 2))
    assert values["map"]["chance"] == pytest.approx(np.mean([(1 / i + 2 / j) / 2 for i, j in rank_pairs]))
    assert values["r_at_1"]["chance"] == pytest.approx(np.mean([i == 1 for i, _ in rank_pairs])) == pytest.approx(0.4)
    assert values["r_at_5"]["chance"] == 1.0
    assert values["knn_purity"]["chance"] == pytest.approx(2 / 5)


def test_random_vectors_are_at_chance_level():
    rng = np.random.default_rng(0)
    _, clips, _ = gaussian_blobs(n_folds=5, per_class=20, classes=("a", "b", "c"))  # 300 clips
    points = EmbeddingMatrix.from_tables(clips, embeddings_table(clips, rng.standard_normal((300, 16))))
    values = {m.name: m.columns() for m in clip_means(points)}
    # 300 queries, so a standard error of about 0.03 for r_at_1; the others vary less
    for name, tolerance in {"map": 0.02, "knn_purity": 0.05, "r_at_1": 0.1}.items():
        assert values[name]["value"] == pytest.approx(values[name]["chance"], abs=tolerance)
        assert values[name]["low"] < values[name]["chance"] < values[name]["high"]
    assert abs(values["silhouette"]["value"]) < 0.03


def test_permuted_labels_are_the_reference():
    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import StandardScaler

    _, clips, x = gaussian_blobs(separation=3)
    values = measures(one_source_each(clips), x)
    random, z = np.random.default_rng(1), StandardScaler().fit_transform(x.astype(float))
    labels = np.array(clips["label"].to_pylist())
    shuffled = [silhouette_score(z, random.permutation(labels), metric="cosine") for _ in range(50)]
    row = values["silhouette"]
    # two means of 100 and of 50 permutations
    tolerance = 4 * np.std(shuffled) * np.sqrt(1 / 100 + 1 / 50)
    assert row["permuted_mean"] == pytest.approx(np.mean(shuffled), abs=tolerance) and row["permuted_mean"] < 0
    assert row["permuted_low"] < row["permuted_mean"] < row["permuted_high"] < row["value"]
    p_values = {r["p_permuted"] for name, r in values.items() if name not in ("r_at_5", "r_at_10")}
    assert p_values == {1 / 101}, "no permutation is as good as three distant classes"
    # the permuted mean of retrieval is its chance level
    assert values["r_at_1"]["permuted_mean"] == pytest.approx(values["r_at_1"]["chance"], abs=0.02)
    assert abs(values["ami"]["permuted_mean"]) < 0.02 < values["nmi"]["permuted_mean"]


def test_one_source_recording_has_neither_interval_nor_reference():
    _, clips, x = gaussian_blobs(n_folds=2, per_class=2)
    row = measures(replace_column(clips, "source", ["s"] * clips.num_rows), x)["silhouette"]
    assert row["value"] is not None and row["low"] is row["permuted_mean"] is row["p_permuted"] is None
    assert row["interval"] == "none: fewer than 10 source recordings"


def test_undefined_measures_have_a_reason():
    _, clips, x = gaussian_blobs(n_folds=2, per_class=2, classes=("a", "b"))
    all_rows = {r["measure"] for r in measures(clips, x).values()}
    for reason, table, vectors in (
        ("no clip has an embedding yet", clips.slice(0, 0), x[:0]),
        ("all clips are of one class", clips.take(pa.array([0, 1, 4, 5])), x[:4]),
        ("all vectors are the same", clips, np.ones_like(x)),
    ):
        values = measures(table, vectors)
        assert set(values) == all_rows
        assert {(r["value"], r["chance"], r["reason"]) for r in values.values()} == {(None, None, reason)}
    # one source for each class: without the source of the query no clip of its class is left
    one_source_a_class = replace_column(clips, "source", clips["label"].to_pylist())
    values = measures(one_source_a_class, x)
    assert (values["map"]["value"], values["map"]["clips"]) == (None, 0)
    assert values["map"]["reason"] == "no class has clips of two source recordings"
    assert values["silhouette"]["value"] is not None
    pair = clips.take(pa.array([0, 2]))
    for name in ("silhouette", "nmi", "ami", "ari"):
        assert measures(pair, x[:2])[name]["reason"] == "every class has only one clip"


def test_only_clips_with_a_row_and_an_embedding_are_used():
    _, clips, x = gaussian_blobs(n_folds=3)
    some_embeddings = embeddings_table(clips, x).slice(5, 40)
    table = embedding_quality_table(clips.slice(10, 60), some_embeddings)
    assert set(table["clips"].to_pylist()) == {35}  # 10 to 45 of both


def test_published_claims_of_encoders_by_model():
    # the words of main_noteblog.ipynb, section "Embedding Analysis"
    assert "remarkably clear separation" in claim_of("laion/clap-htsat-unfused")
    aimv2 = claim_of("apple/aimv2-large-patch14-native")
    assert "no clear clustering pattern" in aimv2 and "uncertain" in aimv2
    assert "moderate clustering with some overlap" in claim_of("music2latent")
    assert claim_of("features") is claim_of(None) is None
