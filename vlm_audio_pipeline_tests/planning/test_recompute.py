"""Only what changed is recomputed: counted, step by step and row by row."""

import shutil

import pytest

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder

FOLDS = (1, 2, 3)
SUMMARIES = ["history", "leaderboard", "metrics/knn", "metrics/panel", "metrics/probe"]
OF_VECTORS = ["embedding_quality/bands", "leakage"]


def each(step, folds=FOLDS):
    return [f"{step}|{f}" for f in folds]


def test_from_nothing_every_step_runs_once(bench):
    ran = bench.run()
    # 3 folds x (clips, embeddings, probes, 3 x predictions) + 3 x metrics, leaderboard, history + 2 on the vectors + published
    assert len(ran.steps) == len(set(ran.steps)) == 3 * 6 + 5 + 2 + 1
    assert ran.vectors == 12
    assert ran.report.steps == 26
    assert not ran.report.failed


def test_again_there_is_nothing_to_do(done):
    ran = done.run()
    assert (ran.steps, ran.report.runs) == ([], 0)


def test_one_recording_replaced(done):
    done.record("1-low-0", "low", seed=99)
    ran = done.run()
    assert ran.vectors == 1
    wanted = {
        "clips|1",
        "embeddings/bands|1",
        *each("probes/probe", (2, 3)),  # fold 1's own probe learns from the other folds: untouched
        "predictions/probe|1",  # its input vector changed
        *each("predictions/knn"),  # neighbours of every fold may have changed
        "predictions/panel|1",  # reads the fold's clips
        "metrics/probe",
        "leaderboard",
        "history",
        *OF_VECTORS,
    }
    assert set(ran.steps) >= wanted
    # whether the others follow depends on whether their inputs' content changed, never on their having run
    allowed = {*each("predictions/probe", (2, 3)), "metrics/knn"}
    assert set(ran.steps) - wanted <= allowed
    assert "metrics/panel" not in ran.steps  # what panel said did not change
    assert len(ran.steps) == len(set(ran.steps))


def test_a_touched_but_equal_recording_recomputes_nothing_costly(done):
    path = done.audio / "1-low-0.wav"
    path.write_bytes(path.read_bytes())  # new times, same bytes
    assert done.run().steps == []


def test_same_samples_in_another_file_stop_at_the_clips(done):
    """Metadata of a file changes its bytes, not its samples: the clips are looked at again, and nothing after them."""
    import soundfile

    path = done.audio / "2-high-1.wav"
    samples, rate = soundfile.read(path, dtype="int16")
    with soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
        file.title = "retagged"
        file.write(samples)
    ran = done.run()
    assert ran.steps == ["clips|2"]
    assert ran.vectors == 0


def test_a_probe_parameter_changes_no_embedding(done):
    ran = done.run(done.changed("classifiers", "probe", c=0.1))
    assert ran.vectors == 0
    own = {*each("probes/probe"), *each("predictions/probe"), "metrics/probe"}
    assert set(ran.steps) == {*own, "leaderboard", "history"}


def test_back_to_the_old_parameter_takes_the_old_rows(done):
    changed = done.changed("encoders", "bands", dimensions=5)
    assert done.run(changed).vectors == 12
    ran = done.run()
    assert set(each("embeddings/bands")) <= set(ran.steps)
    assert ran.vectors == 0  # the result store still has the vectors of 4 dimensions


def test_an_encoder_added_runs_its_own_chain_and_the_summaries(done):
    study = done.changed("encoders", more={"kind": "scripted", "dimensions": 6})
    study["classifiers"]["near"] = {"kind": "knn", "encoder": "more", "k": 3}
    ran = done.run(study)
    own = {*each("embeddings/more"), "embedding_quality/more", *each("predictions/near"), "metrics/near"}
    assert set(ran.steps) == {*own, "leaderboard", "leakage", "history"}
    assert ran.vectors == 12


def test_a_classifier_removed_changes_the_summaries_of_all_alone(done):
    study = done.changed()
    del study["classifiers"]["knn"]
    assert done.run(study).steps == ["history", "leaderboard"]
    names = query(done.data_folder, "SELECT DISTINCT classifier FROM predictions ORDER BY 1").column(0).to_pylist()
    assert names == ["panel", "probe"]


@pytest.mark.parametrize("step", ["clips", "embeddings/bands", "probes/probe", "predictions/knn", "metrics/probe"])
@pytest.mark.parametrize("damage", ["delete", "truncate", "empty"])
def test_a_part_deleted_or_damaged_is_made_again_and_nothing_else(done, step, damage):
    fold = None if step.startswith("metrics") else 2
    path = next(iter(done.graph().partition_files(Node(step, fold)).values()))
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -9])
    ran = done.run()
    assert ran.steps == [str(Node(step, fold))]
    assert ran.vectors == 0


def test_half_of_a_pair_of_parts_is_made_again(done):
    done.graph().partition_files(Node("metrics/knn"))["confusion"].unlink()
    assert done.run().steps == ["metrics/knn"]


def test_the_data_folder_moved(done, tmp_path):
    moved = tmp_path / "elsewhere" / "results"
    moved.parent.mkdir()
    shutil.move(done.data_folder.root, moved)
    before = done.data_folder
    done.data_folder = DataFolder(moved)
    assert done.run().steps == []
    assert query(done.data_folder, "SELECT count(*) FROM predictions").column(0).to_pylist() == [12 + 12 + 16]
    assert not before.catalogue.exists()


def test_upstream_again_with_the_same_content_leaves_the_rest_fresh(done):
    graph = done.graph()
    from vlm_audio_pipeline.planning.execution import execute_node

    for fold in FOLDS:
        execute_node(graph, Node("clips", fold))
        execute_node(graph, Node("embeddings/bands", fold))
    assert done.run().steps == []


def test_a_label_corrected_computes_no_vector(done):
    done.rows[0]["label"] = "high"
    ran = done.run()
    assert ran.vectors == 0
    assert {"clips|1", *each("probes/probe", (2, 3)), "predictions/probe|1", "metrics/panel"} <= set(ran.steps)
    assert "probes/probe|1" not in ran.steps


def test_a_reading_added_redoes_the_readers_alone(done):
    with (done.folder / "annotations.csv").open("a") as file:
        file.write("3-high-1,ann,low\n")
    ran = done.run()
    assert set(ran.steps) == {*each("predictions/panel"), "metrics/panel", "leaderboard", "history"}


def test_one_fold_only(bench):
    ran = bench.run(fold=1)
    # predicting fold 1 needs the vectors of all folds, but no other fold's probe or predictions
    assert set(ran.steps) == {
        *each("clips"),
        *each("embeddings/bands"),
        "probes/probe|1",
        "predictions/probe|1",
        "predictions/knn|1",
        "predictions/panel|1",
        *SUMMARIES,
        *OF_VECTORS,
        "published",
    }
    rows = query(
        bench.data_folder, "SELECT classifier, clips, folds, partial, rank FROM leaderboard WHERE kind <> 'reference'"
    ).to_pylist()
    assert {(r["clips"], r["folds"], r["partial"], r["rank"]) for r in rows} == {(4, "1", True, None)}


def test_only_a_pattern_and_what_it_needs(bench):
    ran = bench.run(only=("predictions/knn",))
    assert set(ran.steps) == {*each("clips"), *each("embeddings/bands"), *each("predictions/knn")}


def test_missing_weights_stop_their_own_chain_alone(bench):
    study = bench.changed("encoders", absent={"kind": "scripted", "missing": True})
    study["classifiers"]["lost"] = {"kind": "knn", "encoder": "absent"}
    ran = bench.run(study)
    assert not ran.report.failed
    assert {str(n) for n in ran.report.not_run} == {*each("embeddings/absent"), *each("predictions/lost")}
    rows = {r["classifier"]: r for r in query(bench.data_folder, "SELECT * FROM leaderboard").to_pylist()}
    assert rows["lost"]["accuracy"] is None
    assert rows["lost"]["note"] == "not run: weights of scripted missing"
    assert rows["probe"]["accuracy"] is not None


def test_a_step_that_fails_stops_what_needs_it_and_nothing_else(bench):
    with (bench.folder / "annotations.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    ran = bench.run()
    failed = {str(n): why for n, why in ran.report.failed.items()}
    assert set(failed) == set(each("predictions/panel"))
    assert "loud" in failed["predictions/panel|1"] and "line 18" in failed["predictions/panel|1"]
    rows = {r["classifier"]: r for r in query(bench.data_folder, "SELECT * FROM leaderboard").to_pylist()}
    assert rows["panel"]["accuracy"] is None and rows["panel"]["note"].startswith("not run")
    assert rows["probe"]["accuracy"] is not None


def board(bench):
    return {r["classifier"]: r for r in query(bench.data_folder, "SELECT * FROM leaderboard").to_pylist()}


def test_numbers_of_other_settings_never_stand_among_those_of_today(done):
    changed = done.changed("classifiers", "knn", k=1)
    done.run(changed, fold=1)
    row = board(done)["knn"]
    assert (row["folds"], row["clips"], row["partial"], row["rank"]) == ("1", 4, True, None)
    assert board(done)["probe"]["folds"] == "1,2,3"  # what did not change is still up to date
    done.run(changed)
    assert (board(done)["knn"]["folds"], board(done)["knn"]["partial"]) == ("1,2,3", False)


def test_a_model_that_cannot_run_does_not_keep_the_numbers_of_another(done):
    study = done.changed("encoders", "bands", seed=1, missing=True)
    ran = done.run(study)
    assert {str(n).split("|")[0] for n in ran.report.not_run} >= {"embeddings/bands"}
    for classifier in ("probe", "knn"):
        row = board(done)[classifier]
        assert row["accuracy"] is None and row["note"] == "not run: weights of scripted missing"
    assert board(done)["panel"]["accuracy"] is not None
    done.run()  # back to what was there: nothing was lost
    assert board(done)["probe"]["accuracy"] is not None


def test_a_step_that_now_fails_does_not_keep_its_old_number(done):
    with (done.folder / "annotations.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    done.run()
    assert board(done)["panel"]["accuracy"] is None


def test_another_set_of_classes_redoes_who_chooses_among_them(bench):
    """A third class of which only folds 1 and 2 have clips: choices in fold 3 were made among two, and are made anew."""
    for fold in (1, 2):
        for take in (0, 1):
            name = f"{fold}-mid-{take}"
            bench.record(name, "low", seed=50 + 2 * fold + take)
            bench.rows.append(
                {
                    **bench.rows[0],
                    "id": name,
                    "path": f"audio/{name}.wav",
                    "label": "mid",
                    "fold": fold,
                    "source": f"{fold}-mid",
                }
            )
    two = bench.changed("dataset", classes=["low", "high"])
    three = bench.changed("dataset", classes=["low", "high", "mid"])
    assert not bench.run(two).report.failed
    ran = bench.run(three)
    assert {"predictions/knn|3", "predictions/probe|3"} <= set(ran.steps)
    assert ran.vectors == 4
    rows = query(bench.data_folder, "SELECT DISTINCT len(map_keys(scores)) FROM predictions WHERE classifier = 'knn'")
    assert rows.column(0).to_pylist() == [3]


def test_a_kept_column_more_computes_nothing(bench):
    without = bench.changed("dataset", keep=[])
    bench.run(without)
    assert set(bench.run().steps) == {*each("clips")}
    assert query(bench.data_folder, "SELECT DISTINCT room FROM predictions ORDER BY 1").column(0).to_pylist() == [
        "hall",
        "yard",
    ]


def test_a_limited_run_keeps_apart_and_is_never_ranked(done):
    from vlm_audio_pipeline.planning.clip_limit import limit_study
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.planning.run import run_study

    graph = done.graph()
    small = Graph(limit_study(graph.study, 2), done.data_folder)
    before = graph.result_store.count("vector")
    report = run_study(small)
    assert not report.failed
    assert graph.result_store.count("vector") == before  # the rows of the full study serve
    rows = query(
        done.data_folder,
        "SELECT study, rank, clips, partial FROM leaderboard WHERE kind <> 'reference' ORDER BY study, clips",
    ).to_pylist()
    small_rows = [r for r in rows if r["study"] == "bench_limit2"]
    assert {(r["rank"], r["partial"]) for r in small_rows} == {(None, True)}
    assert max(r["clips"] for r in small_rows) == 6  # 2 clips of each of 3 folds
    assert done.run().steps == []
