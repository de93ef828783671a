import re

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.evaluation.leakage import MAX_PAIRS, leakage_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import (
    clips_table,
    embeddings_table,
    esc10_dataset,
    gaussian_blobs,
    needs_esc10,
)


def leakage(clips, embeddings=None, examples=None, cards=None, dataset="csv"):
    collections = DATASETS.get(dataset).card.collections
    table = leakage_table(clips, embeddings or {}, examples or {}, cards or {}, dataset, collections)
    return TABLES["leakage"].conform(table, study="s").to_pylist()


def change_clips(clips, column, **values):
    """Return the table with another value for some clips; `_` in a name stands for `-`."""
    new = {name.replace("_", "-"): value for name, value in values.items()}
    clip_values = zip(clips["clip"].to_pylist(), clips[column].to_pylist(), strict=True)
    return clips.set_column(clips.column_names.index(column), column, pa.array([new.get(c, v) for c, v in clip_values]))


def examples(*rows):
    """Build `examples` rows from (fold, query, clip, source)."""
    columns = {
        "fold": [r[0] for r in rows],
        "query": [r[1] for r in rows],
        "clip": [r[2] for r in rows],
        "source": [r[3] for r in rows],
        "trial": [0] * len(rows),
        "position": list(range(len(rows))),
        **dict.fromkeys(("label", "example_label", "content_sha256"), ["a"] * len(rows)),
    }
    return (
        TABLES["examples"].conform(pa.table(columns), study="s", classifier="few")
        if rows
        else TABLES["examples"].empty_table()
    )


def random_vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 64))


def test_a_clean_study_has_a_row_for_every_check():
    _, clips, _ = gaussian_blobs(n_folds=3, per_class=16)  # 144 clips, two a source
    table = examples((1, "", "2-a-00", "2-a-0"), (1, "1-b-00", "3-a-00", "3-a-0"))
    rows = leakage(clips, {"e": embeddings_table(clips, random_vectors(144))}, {"few": table})
    findings = {r["kind"]: (r["subject"], r["severity"], r["count"], r["checked"]) for r in rows}
    assert findings == {
        "exact_duplicate": ("", "clean", 0, 144),
        "example_of_query_source": ("few", "clean", 0, 2),
        "near_duplicate": ("e", "clean", 0, 144),
        "source_across_folds": ("", "clean", 0, 72),
        "file_across_folds": ("", "clean", 0, 144),
        "alike_sources": ("", "clean", 0, 72),
    }
    texts = {r["kind"]: r["finding"] for r in rows}
    assert texts["exact_duplicate"] == ("0 groups of clips have the same samples (144 clips were compared)")
    assert texts["example_of_query_source"] == (
        "0 clips are examples of few for a query of their own source recording (2 examples were checked)"
    )
    assert re.fullmatch(
        r"0 pairs of clips in different folds have embeddings of e so similar that they may be copies \(144 clips were "
        r"compared\)\. A pair counts if its distance is less than \d+(\.\d+)? % of the usual distance between clips of different "
        r"recordings\. If there are no copies, at most 0\.05 such pairs are expected by chance",
        texts["near_duplicate"],
    )
    assert texts["source_across_folds"] == "0 of 72 source recordings have clips in two folds or more"
    assert {(r["clips"], r["folds"], r["clip_ids"]) for r in rows} == {(0, "", None)}


def test_a_source_in_two_folds_is_a_leak():
    _, clips, _ = gaussian_blobs(n_folds=3, per_class=2)
    rows = leakage(change_clips(clips, "source", **{"3_b_01": "1-b-0"}))
    summary, finding = [r for r in rows if r["kind"] == "source_across_folds"]
    assert (summary["severity"], summary["count"], summary["checked"], summary["clips"]) == ("leak", 1, 9, 3)
    assert (finding["subject"], finding["severity"], finding["clips"], finding["folds"]) == ("1-b-0", "leak", 3, "1,3")
    assert finding["clip_ids"] == "1-b-00, 1-b-01, 3-b-01"
    assert finding["finding"].startswith("source 1-b-0 has clips in folds 1,3")


def test_sources_across_folds_are_unknown_with_one_fold():
    _, clips, _ = gaussian_blobs(n_folds=1)
    [row] = [r for r in leakage(clips) if r["kind"] == "source_across_folds"]
    assert (row["severity"], row["finding"]) == (
        "unknown",
        "0 of 9 source recordings have clips in two folds or more; only 1 fold was run so far",
    )


def test_exact_duplicates_within_and_across_folds():
    _, clips, _ = gaussian_blobs(n_folds=2, per_class=2)
    clips = change_clips(clips, "samples_sha256", **{"1_a_01": "1-a-00", "2_b_00": "1-c-00", "2_b_01": "1-c-00"})
    summary, *groups = [r for r in leakage(clips) if r["kind"] == "exact_duplicate"]
    assert (summary["severity"], summary["count"], summary["clips"], summary["folds"]) == ("leak", 2, 5, "1,2")
    assert [(g["clip_ids"], g["severity"], g["folds"]) for g in groups] == [
        ("1-a-00, 1-a-01", "suspect", "1"),
        ("1-c-00, 2-b-00, 2-b-01", "leak", "1,2"),
    ]
    assert groups[0]["finding"] == "1-a-00, 1-a-01 have the same samples, in one fold, where they count 2 times"
    assert groups[1]["finding"].endswith("in different folds, under different labels: b, c")


def test_near_duplicates_are_reported_across_folds_only():
    _, clips, _ = gaussian_blobs(n_folds=3, per_class=12)  # 108 clips
    ids = clips["clip"].to_pylist()
    x = random_vectors(108)
    x[ids.index("1-a-01")] = x[ids.index("1-a-00")]  # within a fold: not a leak
    x[ids.index("3-c-00")] = x[ids.index("2-b-00")] + 1e-3
    summary, pair = [r for r in leakage(clips, {"e": embeddings_table(clips, x)}) if r["kind"] == "near_duplicate"]
    assert (summary["severity"], summary["count"], summary["clips"], summary["folds"]) == ("suspect", 1, 2, "2,3")
    assert (pair["subject"], pair["clip_ids"], pair["folds"]) == ("e: 2-b-00 ~ 3-c-00", "2-b-00, 3-c-00", "2,3")
    assert pair["similarity"] == pytest.approx(1, abs=1e-4)
    assert pair["finding"].startswith(
        "2-b-00 and 3-c-00, labelled b and c, in different folds, have embeddings of e with a cosine of 1.0"
    )


def test_scaling_and_shifting_the_vectors_does_not_change_the_pairs():
    _, clips, _ = gaussian_blobs(n_folds=2, per_class=20, classes=("a", "b"))  # 40 clips of fold 1, then 40 of fold 2
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 500))
    x[40] = x[0] + 0.2 * rng.standard_normal(500)  # cosine 1 / sqrt(1 + 0.2^2) = 0.981
    for scale in (1.0, np.geomspace(1e-3, 1e3, 500)):
        table = embeddings_table(clips, x * scale + 5 * scale)
        summary, *pairs = [r for r in leakage(clips, {"e": table}) if r["kind"] == "near_duplicate"]
        assert summary["count"] == 1 and pairs[0]["similarity"] == pytest.approx(0.981, abs=0.01)


def test_many_pairs_are_counted_and_the_most_similar_are_listed():
    _, clips, _ = gaussian_blobs(n_folds=2, per_class=60, classes=("a", "b"))  # 240 clips, 120 a fold
    x = random_vectors(120)
    x = np.concatenate([x, x + 1e-3])  # fold 2 is a copy of fold 1
    table = embeddings_table(clips, x)
    summary, *pairs = [r for r in leakage(clips, {"e": table}) if r["kind"] == "near_duplicate"]
    assert (summary["count"], len(pairs)) == (120, MAX_PAIRS)
    assert summary["finding"].endswith(". The 100 most similar are listed")


def test_a_sample_without_near_duplicates_is_not_clean(monkeypatch):
    """A pair of copies is in the sample only if both clips are."""
    monkeypatch.setattr("vlm_audio_pipeline.evaluation.leakage.MAX_SEARCHED_CLIPS", 120)
    _, clips, _ = gaussian_blobs(n_folds=2, per_class=60, classes=("a", "b"))  # 240 clips
    table = embeddings_table(clips, random_vectors(240))
    [summary] = [r for r in leakage(clips, {"e": table}) if r["kind"] == "near_duplicate"]
    assert (summary["severity"], summary["count"], summary["checked"]) == ("unknown", 0, 120)
    monkeypatch.undo()
    [summary] = [r for r in leakage(clips, {"e": table}) if r["kind"] == "near_duplicate"]
    assert (summary["severity"], summary["count"], summary["checked"]) == ("clean", 0, 240)


def test_few_or_missing_embeddings_are_not_checked():
    _, clips, x = gaussian_blobs(n_folds=2, per_class=4)
    rows = leakage(clips, {"few": embeddings_table(clips, x), "none": TABLES["embeddings"].empty_table()})
    by_encoder = {r["subject"]: (r["severity"], r["finding"]) for r in rows if r["kind"] == "near_duplicate"}
    assert by_encoder == {
        "few": (
            "unknown",
            "not checked by the embeddings of few, because 24 clips have 3 clips of other source recordings in their fold, and 80 such "
            "clips are needed",
        ),
        "none": ("unknown", "not checked by the embeddings of none, because 0 clips have embeddings"),
    }


def test_examples_of_the_source_of_the_query_are_a_leak():
    _, clips, _ = gaussian_blobs(n_folds=2, per_class=2, classes=("a", "b"))  # siblings 00 and 01
    table = examples(
        (1, "", "2-a-00", "2-a-0"),
        (1, "", "1-a-00", "1-a-0"),  # serves the whole of fold 1, where its source has two clips
        (2, "2-b-00", "2-b-01", "2-b-0"),  # for its sibling
        (2, "2-a-00", "2-b-01", "2-b-0"),  # for another source
    )
    summary, *findings_by_clip = [
        r for r in leakage(clips, examples={"few": table}) if r["kind"] == "example_of_query_source"
    ]
    assert (summary["severity"], summary["count"], summary["checked"], summary["clips"]) == ("leak", 2, 4, 3)
    assert {r["subject"]: r["clip_ids"] for r in findings_by_clip} == {
        "few: 1-a-00": "1-a-00, 1-a-01",
        "few: 2-b-01": "2-b-00",
    }
    assert findings_by_clip[0]["finding"] == "1-a-00 of source 1-a-0 is an example of few for 2 clips of that source"
    [summary] = [r for r in leakage(clips, examples={"few": examples()}) if r["kind"] == "example_of_query_source"]
    assert summary["severity"] == "unknown"


def test_training_data_of_model_cards():
    _, clips, _ = gaussian_blobs()
    cards = {
        "clap": ModelCard("CLAP", training_data="FreeSound, AudioSet", overlaps=("FreeSound", "ESC-50", "AudioSet")),
        "m2l": ModelCard("Music2Latent", training_data="MTG Jamendo"),
        "features": ModelCard("features: computed", training_data="none"),
        "undisclosed": ModelCard("A"),
        "not known": ModelCard("B", training_data="not known to this project"),
        "birds": ModelCard("D", training_data="not known in full: Xeno-canto, and other sounds"),
        "speech": ModelCard("C", training_data="LibriSpeech", overlaps=("LibriSpeech",)),
    }

    def findings(dataset):
        rows = leakage(clips, cards=cards, dataset=dataset)
        return {r["subject"]: r for r in rows if r["kind"] == "training_data"}

    esc = findings("esc10")
    assert {name: r["severity"] for name, r in esc.items()} == {
        "clap": "suspect",
        "m2l": "clean",
        "features": "clean",
        "undisclosed": "unknown",
        "not known": "unknown",
        "birds": "unknown",
        "speech": "clean",
    }
    assert esc["clap"]["finding"] == (
        "the card of clap (CLAP) says that the training data contains recordings of FreeSound, ESC-50, and so may contain these "
        "clips; only the card was read, the weights were not examined"
    )
    assert esc["m2l"]["finding"] == (
        'the card of m2l (Music2Latent) names its training data, "MTG Jamendo", and this dataset is not among them; only the card was read, '
        "the weights were not examined"
    )
    assert esc["birds"]["finding"] == (
        "the card of birds (D) does not name all of the training data (not known in full: Xeno-canto, and other sounds)"
    )
    assert (esc["clap"]["count"], esc["clap"]["checked"]) == (2, 3)
    # the origin of recordings in a CSV file of the user is not known
    assert {n for n, r in findings("csv").items() if r["severity"] == "unknown"} == {
        "clap",
        "undisclosed",
        "not known",
        "birds",
        "speech",
    }


@needs_esc10
def test_esc10_has_no_source_in_two_folds():
    data = esc10_dataset()
    rows = {r["kind"]: r for r in leakage(clips_table(data.clips)) if not r["subject"]}
    assert rows["source_across_folds"]["finding"] == "0 of 304 source recordings have clips in two folds or more"
