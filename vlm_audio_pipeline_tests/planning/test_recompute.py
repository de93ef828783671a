"""Only what changed is recomputed. The tests count the steps and embeddings of each run."""

import shutil

import pytest

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder

FOLDS = (1, 2, 3)
SUMMARIES = ["history", "leaderboard", "metrics/knn", "metrics/panel", "metrics/probe"]
FROM_EMBEDDINGS = ["embedding_quality/bands", "leakage"]


def nodes_of(step, folds=FOLDS):
    return [f"{step}|{f}" for f in folds]


def test_the_first_run_runs_every_step_once(bench):
    result = bench.run()
    # 3 folds x (clips, embeddings, probes, 3 x predictions) + 3 x metrics, leaderboard, history + 2 on the vectors
    assert len(result.steps) == len(set(result.steps)) == 3 * 6 + 5 + 2
    assert result.vectors == 12
    assert result.report.steps == 25
    assert not result.report.failed


def test_a_second_run_has_nothing_to_do(done):
    result = done.run()
    assert (result.steps, result.report.runs) == ([], 0)


def test_a_replaced_recording_recomputes_only_what_depends_on_it(done):
    done.record("1-low-0", "low", seed=99)
    result = done.run()
    assert result.vectors == 1
    expected = {
        "clips|1",
        "embeddings/bands|1",
        *nodes_of("probes/probe", (2, 3)),  # the probe of fold 1 is trained on the other folds: unchanged
        "predictions/probe|1",  # its input vector changed
        *nodes_of("predictions/knn"),  # neighbours of every fold may have changed
        "predictions/panel|1",  # reads the fold's clips
        "metrics/probe",
        "leaderboard",
        "history",
        *FROM_EMBEDDINGS,
    }
    assert set(result.steps) >= expected
    # the others run only if the content of their inputs changed
    allowed = {*nodes_of("predictions/probe", (2, 3)), "metrics/knn"}
    assert set(result.steps) - expected <= allowed
    assert "metrics/panel" not in result.steps  # the predictions of panel did not change
    assert len(result.steps) == len(set(result.steps))


def test_a_rewritten_recording_with_equal_bytes_recomputes_nothing(done):
    path = done.audio / "1-low-0.wav"
    path.write_bytes(path.read_bytes())  # new times, same bytes
    assert done.run().steps == []


def test_a_file_with_new_metadata_and_equal_samples_runs_only_the_clips_step(done):
    """Metadata changes the bytes of a file but not its samples: only the step `clips` runs again."""
    import soundfile

    path = done.audio / "2-high-1.wav"
    samples, rate = soundfile.read(path, dtype="int16")
    with soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
        file.title = "retagged"
        file.write(samples)
    result = done.run()
    assert result.steps == ["clips|2"]
    assert result.vectors == 0


def test_a_probe_parameter_recomputes_no_embedding(done):
    result = done.run(done.changed_study("classifiers", "probe", c=0.1))
    assert result.vectors == 0
    own_steps = {*nodes_of("probes/probe"), *nodes_of("predictions/probe"), "metrics/probe"}
    assert set(result.steps) == {*own_steps, "leaderboard", "history"}


def test_the_old_parameter_uses_the_stored_results(done):
    changed = done.changed_study("encoders", "bands", dimensions=5)
    assert done.run(changed).vectors == 12
    result = done.run()
    assert set(nodes_of("embeddings/bands")) <= set(result.steps)
    assert result.vectors == 0  # the result store still has the vectors of 4 dimensions


def test_a_new_encoder_runs_its_own_steps_and_the_summaries(done):
    study = done.changed_study("encoders", more={"kind": "scripted", "dimensions": 6})
    study["classifiers"]["near"] = {"kind": "knn", "encoder": "more", "k": 3}
    result = done.run(study)
    own_steps = {*nodes_of("embeddings/more"), "embedding_quality/more", *nodes_of("predictions/near"), "metrics/near"}
    assert set(result.steps) == {*own_steps, "leaderboard", "embedding_comparisons", "leakage", "history"}
    assert result.vectors == 12


def test_a_removed_classifier_changes_only_the_summaries_of_all_classifiers(done):
    study = done.changed_study()
    del study["classifiers"]["knn"]
    assert done.run(study).steps == ["history", "leaderboard"]
    names = query(done.data_folder, "SELECT DISTINCT classifier FROM predictions ORDER BY 1").column(0).to_pylist()
    assert names == ["panel", "probe"]


@pytest.mark.parametrize("step", ["clips", "embeddings/bands", "probes/probe", "predictions/knn", "metrics/probe"])
@pytest.mark.parametrize("damage", ["delete", "truncate", "empty"])
def test_a_deleted_or_damaged_partition_file_is_computed_again_and_nothing_else(done, step, damage):
    fold = None if step.startswith("metrics") else 2
    path = next(iter(done.graph().partition_files(Node(step, fold)).values()))
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -9])
    result = done.run()
    assert result.steps == [str(Node(step, fold))]
    assert result.vectors == 0


def test_a_missing_table_of_a_step_with_two_tables_runs_the_step_again(done):
    done.graph().partition_files(Node("metrics/knn"))["confusion"].unlink()
    assert done.run().steps == ["metrics/knn"]


def test_a_moved_data_folder_is_still_fresh(done, tmp_path):
    new_root = tmp_path / "elsewhere" / "results"
    new_root.parent.mkdir()
    shutil.move(done.data_folder.root, new_root)
    before = done.data_folder
    done.data_folder = DataFolder(new_root)
    assert done.run().steps == []
    assert query(done.data_folder, "SELECT count(*) FROM predictions").column(0).to_pylist() == [12 + 12 + 16]
    assert not before.catalogue.exists()


def test_an_upstream_step_that_runs_again_with_equal_content_leaves_the_rest_fresh(done):
    graph = done.graph()
    from vlm_audio_pipeline.planning.execution import execute_node

    for fold in FOLDS:
        execute_node(graph, Node("clips", fold))
        execute_node(graph, Node("embeddings/bands", fold))
    assert done.run().steps == []


def test_a_corrected_label_recomputes_no_embedding(done):
    done.rows[0]["label"] = "high"
    result = done.run()
    assert result.vectors == 0
    assert {"clips|1", *nodes_of("probes/probe", (2, 3)), "predictions/probe|1", "metrics/panel"} <= set(result.steps)
    assert "probes/probe|1" not in result.steps


def test_a_new_annotation_recomputes_only_the_annotation_steps(done):
    with (done.folder / "annotations.csv").open("a") as file:
        file.write("3-high-1,ann,low\n")
    result = done.run()
    assert set(result.steps) == {*nodes_of("predictions/panel"), "metrics/panel", "leaderboard", "history"}


def test_a_run_of_one_fold_runs_only_the_steps_it_needs(bench):
    result = bench.run(fold=1)
    # predicting fold 1 needs the vectors of all folds, but no other fold's probe or predictions
    assert set(result.steps) == {
        *nodes_of("clips"),
        *nodes_of("embeddings/bands"),
        "probes/probe|1",
        "predictions/probe|1",
        "predictions/knn|1",
        "predictions/panel|1",
        *SUMMARIES,
        *FROM_EMBEDDINGS,
    }
    rows = query(
        bench.data_folder, "SELECT classifier, clips, folds, partial, rank FROM leaderboard WHERE kind <> 'reference'"
    ).to_pylist()
    assert {(r["clips"], r["folds"], r["partial"], r["rank"]) for r in rows} == {(4, "1", True, None)}


def test_a_run_with_only_runs_the_pattern_and_what_it_needs(bench):
    result = bench.run(only=("predictions/knn",))
    assert set(result.steps) == {*nodes_of("clips"), *nodes_of("embeddings/bands"), *nodes_of("predictions/knn")}


def test_missing_weights_stop_only_their_own_steps(bench):
    study = bench.changed_study("encoders", absent={"kind": "scripted", "missing": True})
    study["classifiers"]["lost"] = {"kind": "knn", "encoder": "absent"}
    result = bench.run(study)
    assert not result.report.failed
    assert {str(n) for n in result.report.not_run} == {*nodes_of("embeddings/absent"), *nodes_of("predictions/lost")}
    rows = {r["classifier"]: r for r in query(bench.data_folder, "SELECT * FROM leaderboard").to_pylist()}
    assert rows["lost"]["accuracy"] is None
    assert rows["lost"]["note"] == "not run: weights of scripted missing"
    assert rows["probe"]["accuracy"] is not None


def test_a_failed_step_stops_only_the_steps_that_need_it(bench):
    with (bench.folder / "annotations.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    result = bench.run()
    failed = {str(n): reason for n, reason in result.report.failed.items()}
    assert set(failed) == set(nodes_of("predictions/panel"))
    assert "loud" in failed["predictions/panel|1"] and "line 18" in failed["predictions/panel|1"]
    rows = {r["classifier"]: r for r in query(bench.data_folder, "SELECT * FROM leaderboard").to_pylist()}
    assert rows["panel"]["accuracy"] is None and rows["panel"]["note"].startswith("not run")
    assert rows["probe"]["accuracy"] is not None


def leaderboard_rows(bench):
    return {r["classifier"]: r for r in query(bench.data_folder, "SELECT * FROM leaderboard").to_pylist()}


def test_the_leaderboard_never_mixes_results_of_different_settings(done):
    changed = done.changed_study("classifiers", "knn", k=1)
    done.run(changed, fold=1)
    row = leaderboard_rows(done)["knn"]
    assert (row["folds"], row["clips"], row["partial"], row["rank"]) == ("1", 4, True, None)
    assert leaderboard_rows(done)["probe"]["folds"] == "1,2,3"  # unchanged classifiers are still up to date
    done.run(changed)
    assert (leaderboard_rows(done)["knn"]["folds"], leaderboard_rows(done)["knn"]["partial"]) == ("1,2,3", False)


def test_a_model_that_cannot_run_does_not_keep_the_results_of_another(done):
    study = done.changed_study("encoders", "bands", seed=1, missing=True)
    result = done.run(study)
    assert {str(n).split("|")[0] for n in result.report.not_run} >= {"embeddings/bands"}
    for classifier in ("probe", "knn"):
        row = leaderboard_rows(done)[classifier]
        assert row["accuracy"] is None and row["note"] == "not run: weights of scripted missing"
    assert leaderboard_rows(done)["panel"]["accuracy"] is not None
    done.run()  # the old settings again: no result was lost
    assert leaderboard_rows(done)["probe"]["accuracy"] is not None


def test_a_step_that_now_fails_does_not_keep_its_old_result(done):
    with (done.folder / "annotations.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    done.run()
    assert leaderboard_rows(done)["panel"]["accuracy"] is None


def test_another_set_of_classes_recomputes_the_predictions(bench):
    """Only folds 1 and 2 have clips of the third class, but the predictions of fold 3 must also have three scores."""
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
    two = bench.changed_study("dataset", classes=["low", "high"])
    three = bench.changed_study("dataset", classes=["low", "high", "mid"])
    assert not bench.run(two).report.failed
    result = bench.run(three)
    assert {"predictions/knn|3", "predictions/probe|3"} <= set(result.steps)
    assert result.vectors == 4
    rows = query(bench.data_folder, "SELECT DISTINCT len(map_keys(scores)) FROM predictions WHERE classifier = 'knn'")
    assert rows.column(0).to_pylist() == [3]


def test_a_new_extra_column_computes_nothing(bench):
    without = bench.changed_study("dataset", keep=[])
    bench.run(without)
    assert set(bench.run().steps) == {*nodes_of("clips")}
    assert query(bench.data_folder, "SELECT DISTINCT room FROM predictions ORDER BY 1").column(0).to_pylist() == [
        "hall",
        "yard",
    ]


def test_a_limited_run_is_stored_separately_and_never_ranked(done):
    from vlm_audio_pipeline.planning.clip_limit import limit_study
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.planning.run import run_study

    graph = done.graph()
    small = Graph(limit_study(graph.study, 2), done.data_folder)
    before = graph.result_store.count("vector")
    report = run_study(small)
    assert not report.failed
    assert graph.result_store.count("vector") == before  # uses the results of the full study
    rows = query(
        done.data_folder,
        "SELECT study, rank, clips, partial FROM leaderboard WHERE kind <> 'reference' ORDER BY study, clips",
    ).to_pylist()
    small_rows = [r for r in rows if r["study"] == "bench_limit2"]
    assert {(r["rank"], r["partial"]) for r in small_rows} == {(None, True)}
    assert max(r["clips"] for r in small_rows) == 6  # 2 clips of each of 3 folds
    assert done.run().steps == []
