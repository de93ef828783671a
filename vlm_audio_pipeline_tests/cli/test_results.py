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


def test_wrong_sql_is_told_in_the_databases_own_words(done):
    assert_refused(
        vlm_audio("sql", "SELECT acuracy FROM leaderboard", data=done.data_folder.root), "acuracy", "accuracy"
    )


def test_sql_as_csv_and_json(done):
    query = "SELECT clip, label, fold FROM clips ORDER BY clip"
    want = sorted((r["id"], r["label"], r["fold"]) for r in done.rows)
    result = vlm_audio("sql", query, "--format", "csv", data=done.data_folder.root)
    assert [(r["clip"], r["label"], int(r["fold"])) for r in csv.DictReader(io.StringIO(result.out))] == want
    assert [(r["clip"], r["label"], r["fold"]) for r in query_results(done, query)] == want
    assert result.err == ""


def test_a_sum_in_json_is_a_number(done):
    """DuckDB sums whole numbers in 128 bits, which Arrow hands on as decimals."""
    assert query_results(done, "SELECT sum(fold) AS s, 1.5::DECIMAL(4, 1) AS d FROM clips") == [
        {"s": 4 * (1 + 2 + 3), "d": 1.5}
    ]


def test_sql_as_a_table_cuts_no_column(done):
    result = vlm_audio("sql", "SELECT * FROM leaderboard", data=done.data_folder.root)
    header, *rows = result.out.splitlines()
    assert header.split()[:4] == ["study", "rank", "classifier", "kind"]
    assert header.split()[-1] == "note"
    assert len(rows) == 3 + 2  # chance and majority


def test_sql_that_gives_nothing(done):
    assert vlm_audio("sql", "SELECT clip FROM rejected_clips", data=done.data_folder.root).out.split() == ["clip"]
    assert query_results(done, "SELECT clip FROM rejected_clips") == []


def test_a_leaderboard_is_in_the_order_of_its_ranks(done):
    result = vlm_audio("leaderboard", "bench", data=done.data_folder.root)
    assert result.code == 0
    accuracies = [float(x) for x in re.findall(r"(?:score|annotation)\s+([01]\.\d{3})", result.out)]
    ranked = re.findall(r"^(\d)  (\w+)", result.out, re.M)
    assert [int(rank) for rank, _ in ranked] == sorted(int(rank) for rank, _ in ranked)
    assert {name for _, name in ranked} == {"probe", "knn"}  # panel judged 10 of 12 clips
    assert accuracies[: len(ranked)] == sorted(accuracies[: len(ranked)], reverse=True)
    assert "10 of 12 clips" in result.out


def test_a_leaderboard_nobody_ran(done):
    assert_refused(vlm_audio("leaderboard", "other", data=done.data_folder.root), "other", "vlm-audio run other")


def test_a_narrow_terminal_loses_no_value(done):
    reading, writing = pty.openpty()
    program = subprocess.Popen(
        [PROGRAM, "leaderboard", "--data", str(done.data_folder.root)],
        stdout=writing,
        env={**os.environ, "COLUMNS": "30", "TERM": "xterm"},
    )
    os.close(writing)
    shown = b""
    while True:
        try:
            piece = os.read(reading, 4096)
        except OSError:  # how Linux tells that the other end was closed
            break
        if not piece:
            break
        shown += piece
    os.close(reading)
    assert program.wait(timeout=120) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert "…" not in text
    assert "correct / total" in text and "12 / 12" in text and "20 / 20" in text


def test_show_tells_all_about_a_clip(done):
    result = vlm_audio("show", "1-low-0", data=done.data_folder.root)
    assert result.code == 0
    for word in ("1-low-0", "audio/1-low-0.wav", "probe", "knn", "panel", "ann", "bob", "high"):
        assert word in result.out
    one = vlm_audio("show", "1-low-0", "--classifier", "knn", data=done.data_folder.root)
    assert "knn" in one.out and "probe" not in one.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1-low-9"], ["clip '1-low-9'", "did you mean '1-low-"]),
        (["zzz"], ["clip 'zzz'", "1-high-0", "12 in all"]),
        (["1-low-0", "--classifier", "nkn"], ["classifier 'nkn'", "did you mean 'knn'?"]),
        (["1-low-0", "--study", "bnch"], ["study 'bnch'", "did you mean 'bench'?"]),
        (["3-high-1", "--classifier", "panel"], ["3-high-1", "panel"]),  # both are known, the pair is not
    ],
)
def test_show_what_is_not_there(done, arguments, words):
    assert_refused(vlm_audio("show", *arguments, data=done.data_folder.root), *words)


def test_export_lists_what_it_wrote(done, tmp_path):
    result = vlm_audio("export", "bench", "--out", tmp_path / "out", data=done.data_folder.root)
    assert result.code == 0
    written = [Path(line) for line in result.out.split()]
    assert written and all(p.is_file() for p in written)
    assert any(p.name == "leaderboard.csv" for p in written)


def test_a_page_that_was_deleted_is_written_again(done):
    result = run_command(done, "report")
    assert result.code == 0, result.err
    page = Path(result.out.strip())
    whole = page.read_bytes()
    assert run_command(done, "report").out == result.out
    shutil.rmtree(page.parent)
    assert run_command(done, "report").out == result.out
    assert b"bench" in page.read_bytes() and abs(len(page.read_bytes()) - len(whole)) < 100, "but for the time"
