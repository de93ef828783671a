"""The built-in study on the real recordings, from nothing, as the README shows it."""

import re

from vlm_audio_pipeline.cli.display import show_run
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.studies.loading import load_study


def test_baselines_on_the_official_folds(esc10_dir, layout, capsys):
    assert show_run(Graph(load_study("baselines"), layout)) == 0
    rows = {r["classifier"]: r for r in query(layout, "SELECT * FROM leaderboard").to_pylist()}
    probe, nearest, people = (rows[c] for c in ("classical_probe", "classical_knn", "listeners"))
    # 0.80 is the bar of a simple classical baseline; 0.830 was measured elsewhere with C chosen in the training folds
    assert probe["accuracy"] >= 0.80
    assert (probe["clips"], probe["folds"], probe["training_clips"]) == (400, "1,2,3,4,5", 320)
    assert 0.5 < nearest["accuracy"] < probe["accuracy"]
    # ESC-10-HumanClassification.xlsx: 4,487 of 4,687 judgements right, on 321 of the 400 clips
    assert (people["correct"], people["predictions"], people["clips"]) == (4487, 4687, 321)
    assert people["rank"] is None and "321 of 400 clips" in people["note"]
    folds = query(layout, "SELECT fold, count(*) n, count(DISTINCT source) FROM clips GROUP BY fold ORDER BY fold")
    assert folds["n"].to_pylist() == [80] * 5
    assert query(layout, "SELECT count(DISTINCT source) FROM clips").column(0).to_pylist() == [304]
    capsys.readouterr()

    assert show_run(Graph(load_study("baselines"), layout)) == 0
    assert re.search(r"^0 steps, 0 runs, [\d.]+ s$", capsys.readouterr().out.splitlines()[-1])
