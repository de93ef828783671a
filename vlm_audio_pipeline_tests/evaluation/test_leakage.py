import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.encoders.base import ModelCard
from vlm_audio_pipeline.evaluation.leakage import MOST_PAIRS, leakage_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.running import clips_table, embeddings_table, esc10, needs_esc10, toy


def leakage(clips, embeddings=None, examples=None, cards=None, dataset="csv"):
    table = leakage_table(clips, embeddings or {}, examples or {}, cards or {}, dataset)
    return TABLES["leakage"].conform(table, study="s").to_pylist()


def changed(clips, column, **values):
    """Give the table with some clips' value of a column changed; names are written with _ for -."""
    new = {name.replace("_", "-"): value for name, value in values.items()}
    of = zip(clips["clip"].to_pylist(), clips[column].to_pylist(), strict=True)
    return clips.set_column(clips.column_names.index(column), column, pa.array([new.get(c, v) for c, v in of]))


def examples(*rows):
    """Give `examples` rows of (fold, query, clip, source)."""
    columns = {
        "fold": [r[0] for r in rows],
        "query": [r[1] for r in rows],
        "clip": [r[2] for r in rows],
        "source": [r[3] for r in rows],
        "trial": [0] * len(rows),
        "position": list(range(len(rows))),
        **dict.fromkeys(("label", "shown_label", "content_sha256"), ["a"] * len(rows)),
    }
    return (
        TABLES["examples"].conform(pa.table(columns), study="s", classifier="few")
        if rows
        else TABLES["examples"].empty()
    )


def wide(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 64))


def test_a_clean_study_says_so():
    _, clips, _ = toy(n_folds=3, per_class=4)  # 36 clips, two a source
    shown = examples((1, "", "2-a-00", "2-a-0"), (1, "1-b-00", "3-a-00", "3-a-0"))
    rows = leakage(clips, {"e": embeddings_table(clips, wide(36))}, {"few": shown})
    assert [(r["kind"], r["subject"], r["severity"], r["found"], r["looked_at"], r["finding"]) for r in rows] == [
        (
            "exact_duplicate",
            "",
            "clean",
            0,
            36,
            "0 groups of clips with the same samples among 36 clips, 0 of them across folds",
        ),
        (
            "example_of_query_source",
            "few",
            "clean",
            0,
            2,
            "few: 0 clips shown as examples to queries of their own source, in 2 examples",
        ),
        (
            "near_duplicate",
            "e",
            "clean",
            0,
            36,
            "by e: 0 pairs of clips in different folds with a cosine above 0.99 among 36 clips",
        ),
        ("source_across_folds", "", "clean", 0, 18, "0 of 18 sources in two folds or more"),
    ]
    assert {(r["clips"], r["folds"], r["clip_ids"]) for r in rows} == {(0, "", None)}


def test_a_source_in_two_folds_is_a_leak():
    _, clips, _ = toy(n_folds=3, per_class=2)
    rows = leakage(changed(clips, "source", **{"3_b_01": "1-b-0"}))
    whole, one = [r for r in rows if r["kind"] == "source_across_folds"]
    assert (whole["severity"], whole["found"], whole["looked_at"], whole["clips"]) == ("leak", 1, 9, 3)
    assert (one["subject"], one["severity"], one["clips"], one["folds"]) == ("1-b-0", "leak", 3, "1,3")
    assert one["clip_ids"] == "1-b-00, 1-b-01, 3-b-01"
    assert one["finding"].startswith("source 1-b-0 has clips in folds 1,3")


def test_one_fold_alone_cannot_tell():
    _, clips, _ = toy(n_folds=1)
    [row] = [r for r in leakage(clips) if r["kind"] == "source_across_folds"]
    assert (row["severity"], row["finding"]) == (
        "unknown",
        "0 of 9 sources in two folds or more; only 1 fold made so far",
    )


def test_exact_copies_within_and_across_folds():
    _, clips, _ = toy(n_folds=2, per_class=2)
    clips = changed(clips, "samples_sha256", **{"1_a_01": "1-a-00", "2_b_00": "1-c-00", "2_b_01": "1-c-00"})
    whole, *groups = [r for r in leakage(clips) if r["kind"] == "exact_duplicate"]
    assert (whole["severity"], whole["found"], whole["clips"], whole["folds"]) == ("leak", 2, 5, "1,2")
    assert [(g["clip_ids"], g["severity"], g["folds"]) for g in groups] == [
        ("1-a-00, 1-a-01", "suspect", "1"),
        ("1-c-00, 2-b-00, 2-b-01", "leak", "1,2"),
    ]
    assert groups[0]["finding"] == "1-a-00, 1-a-01 have the same samples, counted as often"
    assert groups[1]["finding"].endswith("in different folds, under different labels: b, c")


def test_near_copies_across_folds_alone_are_told_with_their_cosine():
    _, clips, _ = toy(n_folds=3, per_class=2)  # 18 clips
    ids = clips["clip"].to_pylist()
    x = wide(18)
    x[ids.index("1-a-01")] = x[ids.index("1-a-00")]  # within a fold: a sibling's matter, not a leak
    x[ids.index("3-c-00")] = x[ids.index("2-b-00")] + 1e-3
    whole, pair = [r for r in leakage(clips, {"e": embeddings_table(clips, x)}) if r["kind"] == "near_duplicate"]
    assert (whole["severity"], whole["found"], whole["clips"], whole["folds"]) == ("suspect", 1, 2, "2,3")
    assert (pair["subject"], pair["clip_ids"], pair["folds"]) == ("e: 2-b-00 ~ 3-c-00", "2-b-00, 3-c-00", "2,3")
    assert pair["similarity"] == pytest.approx(1, abs=1e-4)
    assert pair["finding"].startswith(
        "by e: 2-b-00 and 3-c-00, called b and c, in different folds, have a cosine of 1.0"
    )


def test_the_threshold_is_a_cosine_of_standardised_vectors():
    _, clips, _ = toy(n_folds=2, per_class=20, classes=("a", "b"))  # 40 clips of fold 1, then 40 of fold 2
    rng = np.random.default_rng(0)
    for noise, found in ((0.1, 1), (0.2, 0)):  # of a vector of deviation 1: cosine 1 / sqrt(1 + noise^2) = 0.995, 0.981
        x = rng.standard_normal((80, 2000))
        x[40] = x[0] + noise * rng.standard_normal(2000)
        for scale in (1.0, np.geomspace(1e-3, 1e3, 2000)):
            table = embeddings_table(clips, x * scale + 5 * scale)
            [whole, *_] = [r for r in leakage(clips, {"e": table}) if r["kind"] == "near_duplicate"]
            assert whole["found"] == found


def test_many_pairs_are_counted_and_the_most_alike_listed():
    _, clips, _ = toy(n_folds=2, per_class=10, classes=("a", "b"))  # 40 clips, 20 a fold
    base = wide(2)[[int("-b-" in c) for c in clips["clip"].to_pylist()]]
    whole, *pairs = [r for r in leakage(clips, {"e": embeddings_table(clips, base)}) if r["kind"] == "near_duplicate"]
    assert (whole["found"], len(pairs)) == (2 * 10 * 10, MOST_PAIRS)
    assert whole["finding"].endswith("among 40 clips; the 100 most alike are listed")


def test_short_vectors_and_folds_without_any_cannot_tell():
    _, clips, x = toy()
    rows = leakage(clips, {"short": embeddings_table(clips, x), "none": TABLES["embeddings"].empty()})
    told = {r["subject"]: (r["severity"], r["finding"]) for r in rows if r["kind"] == "near_duplicate"}
    assert told == {
        "short": ("unknown", "by short: cannot be told, vectors of 4 dimensions are alike by chance"),
        "none": ("unknown", "by none: cannot be told, 0 clips have a vector yet"),
    }


def test_examples_of_the_query_s_own_source():
    _, clips, _ = toy(n_folds=2, per_class=2, classes=("a", "b"))  # siblings 00 and 01
    shown = examples(
        (1, "", "2-a-00", "2-a-0"),
        (1, "", "1-a-00", "1-a-0"),  # serves the whole of fold 1, where its source has two clips
        (2, "2-b-00", "2-b-01", "2-b-0"),  # for its sibling
        (2, "2-a-00", "2-b-01", "2-b-0"),  # for another source
    )
    whole, *found = [r for r in leakage(clips, examples={"few": shown}) if r["kind"] == "example_of_query_source"]
    assert (whole["severity"], whole["found"], whole["looked_at"], whole["clips"]) == ("leak", 2, 4, 3)
    assert {r["subject"]: r["clip_ids"] for r in found} == {"few: 1-a-00": "1-a-00, 1-a-01", "few: 2-b-01": "2-b-00"}
    assert found[0]["finding"] == "few: 1-a-00 of source 1-a-0 was shown as an example to 2 clips of that source"
    [none] = [r for r in leakage(clips, examples={"few": examples()}) if r["kind"] == "example_of_query_source"]
    assert none["severity"] == "unknown"


def test_what_cards_say_of_training_data():
    _, clips, _ = toy()
    cards = {
        "clap": ModelCard("CLAP", training_data="FreeSound, AudioSet", overlaps=("FreeSound", "ESC-50", "AudioSet")),
        "m2l": ModelCard("Music2Latent", training_data="MTG Jamendo"),
        "features": ModelCard("features: computed", training_data="none"),
        "silent": ModelCard("A"),
        "strange": ModelCard("B", training_data="not known to this project"),
        "speech": ModelCard("C", training_data="LibriSpeech", overlaps=("LibriSpeech",)),
    }

    def said(dataset):
        rows = leakage(clips, cards=cards, dataset=dataset)
        return {r["subject"]: r for r in rows if r["kind"] == "training_data"}

    esc = said("esc10")
    assert {name: r["severity"] for name, r in esc.items()} == {
        "clap": "suspect",
        "m2l": "clean",
        "features": "clean",
        "silent": "unknown",
        "strange": "unknown",
        "speech": "clean",
    }
    assert esc["clap"]["finding"] == (
        "clap (CLAP): its training data holds recordings of FreeSound, ESC-50, so clips may not be new to it"
    )
    assert (esc["clap"]["found"], esc["clap"]["looked_at"]) == (2, 3)
    # of a listing of one's own nobody knows where the recordings are from
    assert {n for n, r in said("csv").items() if r["severity"] == "unknown"} == {"clap", "silent", "strange", "speech"}


@needs_esc10
def test_esc10_has_no_source_in_two_folds():
    data = esc10()
    rows = {r["kind"]: r for r in leakage(clips_table(data.clips)) if not r["subject"]}
    assert rows["source_across_folds"]["finding"] == "0 of 304 sources in two folds or more"
