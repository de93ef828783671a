import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_distances
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.classifiers.language_models.examples import (
    Selection,
    permute_labels,
    select_examples,
)
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, gaussian_blobs

CLASSES = ("a", "b", "c")


def choose(table, /, fold=1, classes=CLASSES, trial=0, **given):
    vectors, draw, order, queries = (
        given.pop(k, d) for k, d in (("vectors", None), ("draw", 0), ("order", None), ("queries", ()))
    )
    content = {clip: f"sha {clip}" for clip in table["clip"].to_pylist()}
    rows = select_examples(
        table,
        fold,
        classes,
        Selection(**given),
        content=content,
        draw=draw,
        order=order,
        vectors=vectors,
        queries=queries,
    )
    whole = rows.append_column("trial", pa.array([trial] * rows.num_rows, pa.int64()))
    assert TABLES["examples"].conform(whole, study="s", classifier="c", fold=fold).num_rows == rows.num_rows
    return whole


def clips_of_fold(clips, fold):
    return clips.filter(pc.equal(clips["fold"], fold))


STRATEGIES = ["random", "medoid", "diverse", "nearest"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(1, 3), st.integers(0, 5)), min_size=20, max_size=60),
    st.sampled_from(STRATEGIES),
    st.integers(1, 2),
    st.integers(0, 3),
    st.integers(0, 10**6),
)
def test_examples_share_neither_fold_nor_source_recording_with_a_query(drawn, select, shots, draw, seed):
    """Also if source recordings occur in several folds and classes, as in a folder of files."""
    listed = [Clip(f"k{i:02}", label, fold, f"s{source}", f"{i}") for i, (label, fold, source) in enumerate(drawn)]
    clips = clips_table(listed)
    vectors = np.random.default_rng(seed).standard_normal((len(listed), 3))
    queries = clips_of_fold(clips, 1)
    query_sources = set(queries["source"].to_pylist())
    candidates = [c for c in listed if c.fold != 1 and c.source not in query_sources]
    try:
        rows = choose(
            clips,
            select=select,
            shots=shots,
            draw=draw,
            seed=seed,
            vectors=vectors,
            queries=queries["clip"].to_pylist(),
        )
    except VlmAudioError as error:
        needed = {"random": shots, "diverse": max(shots, draw + 1)}.get(select, (draw + 1) * shots)
        assert not len(candidates) or min(sum(c.label == label for c in candidates) for label in CLASSES) < needed, (
            error
        )
        return
    by_id = {c.id: c for c in listed}
    per_query = 1 if select != "nearest" else queries.num_rows
    assert rows.num_rows == per_query * shots * len(CLASSES)
    for row in rows.to_pylist():
        clip = by_id[row["clip"]]
        assert clip in candidates
        assert (row["label"], row["source"], row["example_label"]) == (clip.label, clip.source, clip.label)
        assert row["content_sha256"] == f"sha {clip.id}"
    for query in set(rows["query"].to_pylist()):
        own_rows = rows.filter(pc.equal(rows["query"], query))
        assert len(set(own_rows["clip"].to_pylist())) == shots * len(CLASSES)
        assert own_rows["position"].to_pylist() == list(range(shots * len(CLASSES)))


def test_positions_cycle_through_the_order_of_classes():
    _, clips, _ = gaussian_blobs()
    rows = choose(clips, shots=2, order=("c", "a", "b"))
    assert rows["label"].to_pylist() == ["c", "a", "b", "c", "a", "b"]
    assert set(rows["query"].to_pylist()) == {""}


def test_random_draws_differ_and_do_not_depend_on_other_clips():
    _, clips, _ = gaussian_blobs(per_class=12)
    by_draw = [tuple(choose(clips, draw=d)["clip"].to_pylist()) for d in range(4)]
    assert len(set(by_draw)) > 1
    assert choose(clips, draw=2)["clip"].to_pylist() == list(by_draw[2])
    assert tuple(choose(clips, draw=2, seed=1)["clip"].to_pylist()) != by_draw[2]
    others = [c for c in clips["clip"].to_pylist() if c not in by_draw[2]]
    reduced = clips.filter(pc.invert(pc.is_in(clips["clip"], value_set=pa.array(others[::3]))))
    assert choose(reduced, draw=2)["clip"].to_pylist() == list(by_draw[2])


def test_shots_come_from_different_source_recordings_if_possible():
    _, clips, x = gaussian_blobs()  # two clips per source recording
    for select in ("random", "medoid", "diverse"):
        rows = choose(clips, shots=4, select=select, vectors=x)
        for label in CLASSES:
            sources = rows.filter(pc.equal(rows["label"], label))["source"].to_pylist()
            assert len(set(sources)) == 4


def _reference_vectors(clips, x, fold, label):
    """Return the ids and standardised vectors of a class in the other folds, and all vectors, by scikit-learn."""
    train = clips["fold"].to_numpy() != fold
    z = StandardScaler().fit(x[train].astype(float)).transform(x.astype(float))
    own_rows = train & (np.array(clips["label"].to_pylist()) == label)
    return np.array(clips["clip"].to_pylist())[own_rows], z[own_rows], z


def single_sources(clips):
    """Return the same clips, each with its own source recording."""
    return clips.set_column(clips.column_names.index("source"), "source", clips["clip"])


def test_medoid_is_the_most_central_clip_and_later_draws_are_farther_away():
    _, clips, x = gaussian_blobs()
    clips = single_sources(clips)
    by_draw = [choose(clips, fold=2, shots=2, select="medoid", draw=d, vectors=x) for d in range(3)]
    for label in CLASSES:
        ids, z, _ = _reference_vectors(clips, x, 2, label)
        far = cosine_distances(z)
        by_distance = ids[np.argsort(far[far.sum(axis=1).argmin()])]
        chosen_clips = [c for rows in by_draw for c in rows.filter(pc.equal(rows["label"], label))["clip"].to_pylist()]
        assert chosen_clips == by_distance[:6].tolist()


def test_diverse_chooses_the_clip_farthest_from_the_chosen_clips():
    _, clips, x = gaussian_blobs()
    clips = single_sources(clips)
    rows = choose(clips, fold=2, shots=4, select="diverse", vectors=x)
    for label in CLASSES:
        ids, z, _ = _reference_vectors(clips, x, 2, label)
        far = cosine_distances(z)
        chosen = [int(far.sum(axis=1).argmin())]
        while len(chosen) < 4:  # greedy k-center
            chosen.append(int(far[:, chosen].min(axis=1).argmax()))
        assert rows.filter(pc.equal(rows["label"], label))["clip"].to_pylist() == ids[chosen].tolist()
    other = choose(clips, fold=2, shots=4, select="diverse", draw=1, vectors=x)
    assert other["clip"].to_pylist()[:3] != rows["clip"].to_pylist()[:3]


def test_nearest_equals_scikit_learn_in_a_fixed_order_of_classes():
    _, clips, x = gaussian_blobs()
    clips = single_sources(clips)
    queries = clips_of_fold(clips, 3)["clip"].to_pylist()
    rows = choose(clips, fold=3, shots=2, select="nearest", vectors=x, queries=queries)
    assert rows["label"].to_pylist() == list(CLASSES) * 2 * len(queries)
    position = clips["clip"].to_pylist()
    for query in queries:
        own_rows = rows.filter(pc.equal(rows["query"], query))
        for label in CLASSES:
            ids, z, whole = _reference_vectors(clips, x, 3, label)
            far = cosine_distances(whole[[position.index(query)]], z)[0]
            assert (
                own_rows.filter(pc.equal(own_rows["label"], label))["clip"].to_pylist()
                == ids[np.argsort(far)[:2]].tolist()
            )


def test_listed_clips_are_used_outside_their_own_fold():
    _, clips, _ = gaussian_blobs(n_folds=3)
    listed = tuple(f"{fold}-{label}-00" for fold in (2, 1, 3) for label in CLASSES)
    rows = {fold: choose(clips, fold=fold, clips=listed)["clip"].to_pylist() for fold in (1, 2, 3)}
    assert rows == {
        1: ["2-a-00", "2-b-00", "2-c-00"],
        2: ["1-a-00", "1-b-00", "1-c-00"],
        3: ["2-a-00", "2-b-00", "2-c-00"],
    }
    assert choose(clips, fold=2, clips=listed, draw=1)["clip"].to_pylist() == [
        "3-a-00",
        "3-b-00",
        "3-c-00",
    ]


@given(st.lists(st.text(max_size=3), min_size=2, max_size=12, unique=True), st.integers(0, 99), st.integers(0, 9))
def test_permuted_labels_are_a_derangement(classes, seed, draw):
    permuted = permute_labels(classes, seed, draw)
    assert sorted(permuted) == sorted(permuted.values()) == sorted(classes)
    assert all(label != other for label, other in permuted.items())
    assert permuted == permute_labels(
        classes[::-1], seed, draw
    )  # the result does not depend on the order of the classes


def test_permuted_labels_are_stored_beside_the_true_labels():
    _, clips, _ = gaussian_blobs()
    rows = choose(clips, shots=2, permuted_labels=True)
    names = dict(zip(rows["label"].to_pylist(), rows["example_label"].to_pylist(), strict=True))
    assert names == permute_labels(CLASSES, 0, 0)
    plain = choose(clips, shots=2)
    assert plain["clip"].to_pylist() == rows["clip"].to_pylist()
    assert plain["example_label"].to_pylist() == plain["label"].to_pylist()
    assert len({tuple(permute_labels(tuple("abcdefgh"), 0, draw).items()) for draw in range(5)}) == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"shots": 4},
            "class 'b' needs 4 candidates for fold 1 .* in draw 0 with 4 shots by random, but has 3",
        ),
        (
            {"shots": 2, "draw": 1, "select": "medoid", "vectors": True},
            "class 'b' needs 4 candidates .* draw 1 .*, but has 3",
        ),
        ({"select": "medoid"}, "by medoid need vectors, got none; name an `encoder`"),
        ({"clips": ("nowhere",)}, "must be clips of the dataset, got \\['nowhere'\\]"),
        ({"clips": ("2-a-00",)}, "class 'b' needs 1 .* by listed, but has 0; list more clips"),
    ],
)
def test_an_impossible_selection_is_refused(given, message):
    _, clips, x = gaussian_blobs(n_folds=2, per_class=6)
    few = pc.or_(pc.not_equal(clips["label"], "b"), pc.less(pc.utf8_slice_codeunits(clips["clip"], -1), "3"))
    x, clips = x[few.to_numpy(zero_copy_only=False)], clips.filter(few)
    if given.get("vectors"):
        given = given | {"vectors": x}
    with pytest.raises(VlmAudioError, match=message):
        choose(clips, **given)


def test_permuting_needs_two_classes():
    with pytest.raises(VlmAudioError, match="two or more classes, got \\['a'\\]"):
        permute_labels(["a"], 0, 0)
