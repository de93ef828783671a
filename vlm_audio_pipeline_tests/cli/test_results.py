"""`sql`, `leaderboard`, `show`, `export`, `report`."""

import csv
import io
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vlm_audio_pipeline_tests.cli.program import (
    PROGRAM,
    assert_refused,
    query_results,
    run_command,
    vlm_audio,
)


def test_wrong_sql_gives_the_message_of_the_database(results):
    assert_refused(
        vlm_audio("sql", "SELECT acuracy FROM leaderboard", data=results.data_folder.root), "acuracy", "accuracy"
    )


def test_sql_results_are_printed_as_csv_and_json(results):
    query = "SELECT clip, label, fold FROM clips ORDER BY clip"
    expected = sorted((r["id"], r["label"], r["fold"]) for r in results.rows)
    result = vlm_audio("sql", query, "--format", "csv", data=results.data_folder.root)
    assert [(r["clip"], r["label"], int(r["fold"])) for r in csv.DictReader(io.StringIO(result.out))] == expected
    assert [(r["clip"], r["label"], r["fold"]) for r in query_results(results, query)] == expected
    assert result.err == ""


def test_a_sum_in_json_is_a_number(results):
    """DuckDB sums integers in 128 bits, which Arrow returns as decimals."""
    assert query_results(results, "SELECT sum(fold) AS s, 1.5::DECIMAL(4, 1) AS d FROM clips") == [
        {"s": 4 * (1 + 2 + 3), "d": 1.5}
    ]


def test_sql_results_as_a_table_show_all_columns(results):
    result = vlm_audio("sql", "SELECT * FROM leaderboard", data=results.data_folder.root)
    header, *rows = result.out.splitlines()
    assert header.split()[:4] == ["study", "rank", "classifier", "kind"]
    assert header.split()[-1] == "note"
    assert len(rows) == 3 + 2  # chance and majority


def test_sql_without_rows_prints_only_column_names(results):
    assert vlm_audio("sql", "SELECT clip FROM rejected_clips", data=results.data_folder.root).out.split() == ["clip"]
    assert query_results(results, "SELECT clip FROM rejected_clips") == []


def test_the_leaderboard_is_ordered_by_rank(results):
    result = vlm_audio("leaderboard", "bench", data=results.data_folder.root)
    assert result.code == 0
    accuracies = [float(x) for x in re.findall(r"(?:score|annotation)\s+([01]\.\d{3})", result.out)]
    ranked = re.findall(r"^(\d)  (\w+)", result.out, re.M)
    assert [int(rank) for rank, _ in ranked] == sorted(int(rank) for rank, _ in ranked)
    assert {name for _, name in ranked} == {"probe", "knn"}  # panel has annotations of 10 of 12 clips
    assert accuracies[: len(ranked)] == sorted(accuracies[: len(ranked)], reverse=True)
    assert "10 of 12 clips" in result.out


def test_the_leaderboard_of_a_study_that_was_not_run_is_an_error(results):
    assert_refused(
        vlm_audio("leaderboard", "other", data=results.data_folder.root), "got 'other'", "options: baselines, bench"
    )
    assert_refused(
        vlm_audio("leaderboard", "demo", data=results.data_folder.root), "was not run", "`vlm-audio run demo`"
    )


def test_a_narrow_terminal_shows_all_values(results):
    read_end, write_end = pty.openpty()
    program = subprocess.Popen(
        [PROGRAM, "leaderboard", "--data", str(results.data_folder.root)],
        stdout=write_end,
        env={**os.environ, "COLUMNS": "30", "TERM": "xterm"},
    )
    os.close(write_end)
    output = b""
    while True:
        try:
            chunk = os.read(read_end, 4096)
        except OSError:  # Linux raises this when the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(read_end)
    assert program.wait(timeout=120) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.decode())
    assert "…" not in text
    assert "correct / total" in text and "12 / 12" in text and "20 / 20" in text


def test_show_prints_all_predictions_of_a_clip(results):
    result = vlm_audio("show", "1-low-0", data=results.data_folder.root)
    assert result.code == 0
    for word in ("1-low-0", "audio/1-low-0.wav", "probe", "knn", "panel", "ann", "bob", "high"):
        assert word in result.out
    knn_only = vlm_audio("show", "1-low-0", "--classifier", "knn", data=results.data_folder.root)
    assert "knn" in knn_only.out and "probe" not in knn_only.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1-low-9"], ["clip '1-low-9'", "did you mean '1-low-"]),
        (["zzz"], ["clip 'zzz'", "1-high-0", "3-low-1"]),
        (["1-low-0", "--classifier", "nkn"], ["classifier 'nkn'", "did you mean 'knn'?"]),
        (["1-low-0", "--study", "bnch"], ["got 'bnch'", "did you mean 'bench'?"]),
        (
            ["3-high-1", "--classifier", "panel"],
            ["3-high-1", "panel"],
        ),  # both exist, but panel has no annotation of this clip
    ],
)
def test_show_of_an_unknown_clip_is_an_error(results, arguments, words):
    assert_refused(vlm_audio("show", *arguments, data=results.data_folder.root), *words)


def test_export_lists_the_files_it_wrote(results, tmp_path):
    result = vlm_audio("export", "bench", "--out", tmp_path / "out", data=results.data_folder.root)
    assert result.code == 0
    files = [Path(line) for line in result.out.split()]
    assert files and all(p.is_file() for p in files)
    assert any(p.name == "leaderboard.csv" for p in files)


def test_export_in_another_format(results, tmp_path):
    result = vlm_audio(
        "export", "bench", "--format", "huggingface", "--out", tmp_path / "out", data=results.data_folder.root
    )
    assert result.code == 0 and "clips/fold_1.parquet" in result.out
    assert_refused(vlm_audio("export", "bench", "--format", "csv", data=results.data_folder.root), "--format", "'csv'")


@pytest.mark.slow
def test_a_deleted_report_is_written_again(done):
    result = run_command(done, "report")
    assert result.code == 0, result.err
    page = Path(result.out.strip())
    old_page = page.read_bytes()
    assert run_command(done, "report").out == result.out
    shutil.rmtree(page.parent)
    assert run_command(done, "report").out == result.out
    assert b"bench" in page.read_bytes() and abs(len(page.read_bytes()) - len(old_page)) < 100, (
        "the pages differ only in the time"
    )
