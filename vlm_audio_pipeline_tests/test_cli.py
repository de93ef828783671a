"""The command as a stranger meets it: its surface, exit codes, and what it says when something is wrong."""

import csv
import hashlib
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml

from vlm_audio_pipeline import cli
from vlm_audio_pipeline.orchestration.graph import Node
from vlm_audio_pipeline_tests.orchestration.bench import Bench

PROGRAM = Path(sys.executable).with_name("vlm-audio")
# of the bench: 3 folds x (clips, embeddings, probes, 3 x predictions), 3 x metrics, quality of the embeddings,
# leaderboard, leakage, published, history
STEPS = 3 * 6 + 3 + 1 + 4


@dataclass
class Said:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.rstrip("\n").splitlines()[-1]


def vlm_audio(*arguments: object, data: Path | None = None) -> Said:
    """Call the command within this process, as its entry point does."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    words = [*map(str, arguments), *(["--data", str(data)] if data else [])]
    before, sys.argv = sys.argv, ["vlm-audio", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
        code: object = 0
    except SystemExit as exited:
        code = exited.code or 0
    finally:
        sys.argv = before
    assert isinstance(code, int)
    return Said(code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())


def judged_in_every_fold(folder):
    """Make a bench whose people judged 10 of the 12 clips, some of each fold."""
    bench = Bench(folder)
    with (folder / "readings.csv").open("a") as file:
        file.writelines(f"{r['id']},{reader},{r['label']}\n" for r in bench.rows[8:10] for reader in ("ann", "bob"))
    bench.write()
    return bench


@pytest.fixture
def bench(tmp_path):
    """A study that was never run."""
    return judged_in_every_fold(tmp_path / "bench")


@pytest.fixture(scope="module")
def ran_once(tmp_path_factory):
    bench = judged_in_every_fold(tmp_path_factory.mktemp("ran") / "bench")
    said = vlm_audio("run", bench.folder / "bench.yaml", data=bench.layout.root)
    assert said.code == 0, said.err
    return bench, said


@pytest.fixture
def done(ran_once, tmp_path):
    """A study that was run."""
    return ran_once[0].copied_to(tmp_path / "bench")


def call(bench, command, *arguments):
    """Call a command that takes a study file."""
    return vlm_audio(command, bench.folder / "bench.yaml", *arguments, data=bench.layout.root)


def ask(bench, query):
    """Ask the results of a bench, as a person would."""
    said = vlm_audio("sql", query, "--format", "json", data=bench.layout.root)
    assert said.code == 0, said.err
    return json.loads(said.out)


def refused(said, *words, code=2):
    """Check that a command ended with a message for a person."""
    assert said.code == code
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err + said.out
    for word in words:
        assert word in said.err


def snapshot(folder):
    """Give the digest of every file that holds results: not locks, nor the row store, which remembers file digests."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != "locks" and not p.name.startswith("rows.sqlite")
    }


# ---------------------------------------------------------------------------------------------------------- the surface

SURFACE = {
    "run": ["study", "--only", "--fold", "--limit", "--dry-run", "--data"],
    "plan": ["study", "--only", "--fold", "--limit", "--data"],
    "refresh": ["study", "--data"],
    "fetch": ["study", "--data"],
    "ui": ["studies", "--port", "--data"],
    "renderings": ["--out"],
    "render": ["study", "rendering", "--out", "--clips", "--data"],
    "leaderboard": ["study", "--data"],
    "show": ["clip", "--classifier", "--study", "--data"],
    "sql": ["query", "--format", "--data"],
    "export": ["study", "--out", "--data"],
    "init": ["listing", "--out"],
    "studies": [],
    "schema": [],
    "try": ["recording", "--study", "--classifier", "--messages", "--data"],
    "report": ["study", "--open", "--single-file", "--limit", "--data"],
    "fiftyone": ["study", "--rendering", "--export", "--port", "--data"],
    "reading-sheet": ["study", "--fold", "--rendering", "--out", "--data"],
    "doctor": ["--data"],
    "prune": ["--days", "--answers", "--yes", "--data"],
}


def commands():
    return typer.main.get_command(cli.app).commands


def test_commands_and_options_are_those_people_have_in_their_scripts():
    assert {name: [p.opts[0] for p in c.params if p.name != "help"] for name, c in commands().items()} == SURFACE


@pytest.mark.parametrize("name", SURFACE)
def test_every_command_says_what_it_does_in_a_sentence(name):
    command = commands()[name]
    first = command.help.split("\n\n")[0]
    assert re.match(r"[A-Z]", first) and first.endswith(".")
    for parameter in command.params:
        assert re.fullmatch(r"[A-Z].*\.", parameter.help, re.S)
    said = vlm_audio(name, "--help")
    assert said.code == 0
    assert first.split()[0] in said.out


def test_the_installed_program_answers_without_loading_what_is_heavy():
    said = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, timeout=120)
    assert said.returncode == 0
    assert all(name in said.stdout for name in SURFACE)
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, vlm_audio_pipeline.cli; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.split()
    assert "typer" in loaded
    assert not {"dagster", "torch", "transformers", "librosa", "sklearn", "matplotlib", "duckdb"} & set(loaded)


# -------------------------------------------------------------------------------------------------- running and planning


def test_a_run_ends_with_what_it_did(ran_once):
    _, said = ran_once
    assert re.fullmatch(rf"{STEPS} steps, \d+ runs, \d+\.\d s", said.last)
    assert "missing" in said.out  # why it ran
    assert "12 / 12" in said.out  # the leaderboard with its denominators
    assert said.err == ""


def test_a_second_run_has_nothing_to_do(done):
    said = call(done, "run")
    assert said.code == 0
    assert said.last.startswith("0 steps, 0 runs, ")
    assert f"{STEPS} fresh, 0 to do" in said.out


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_planning_writes_nothing_and_says_why(done, command):
    name, *options = command
    done.record("2-low-1", "low", seed=77)
    before = snapshot(done.folder)
    said = call(done, name, *options)
    assert said.code == 0
    assert "dataset|2 changed" in said.out
    assert not re.search(r"\d+ steps, \d+ runs", said.out)
    assert snapshot(done.folder) == before


def test_planning_what_was_never_run_makes_no_result(bench):
    before = snapshot(bench.folder)
    said = call(bench, "plan")
    assert said.code == 0
    assert f"0 fresh, {STEPS} to do" in said.out
    assert snapshot(bench.folder) == before


def test_a_plan_names_a_changed_parameter(done):
    done.write(done.changed("classifiers", "knn", k=1))
    said = call(done, "plan")
    assert re.search(r"predictions/knn\s+1,2,3\s+parameters changed", said.out)
    assert (
        "4 to do" in said.out
    )  # three folds, and history, which knows settings; what follows is known only when its inputs are


def test_planning_a_dataset_that_is_not_here_says_its_size_and_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a plan must not download"))
    said = vlm_audio("plan", "baselines", data=tmp_path / "data")
    assert said.code == 0
    assert "takes: download 0.04 GB" in said.out  # ESC-10 is a zip of 40 MB
    assert re.search(r"predictions/listeners\s+1,2,3,4,5\s+missing", said.out)
    assert not (tmp_path / "data" / "datasets").exists()


def test_running_a_dataset_that_cannot_be_had_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **named):
        raise OSError("no network")

    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    refused(vlm_audio("run", "baselines", data=tmp_path / "data"), "no network", "ESC10_DIR", "run again")


def test_only_an_owner_and_what_it_needs(bench):
    said = call(bench, "run", "--only", "knn")
    assert said.code == 0
    # 3 folds x (clips, embeddings, predictions), metrics: the probe, the readers and the leaderboard are not asked for
    assert said.last.startswith(f"{3 * 3 + 1} steps, ")
    assert [r["classifier"] for r in ask(bench, "SELECT DISTINCT classifier FROM predictions")] == ["knn"]


def test_only_may_be_given_twice(bench):
    said = call(bench, "plan", "--only", "embeddings/*", "--only", "people")
    assert said.code == 0
    assert {line.split()[0] for line in said.out.splitlines() if line.endswith("missing")} == {
        "clips",
        "embeddings/bands",
        "predictions/people",
        "metrics/people",
    }


def test_one_fold_is_partial_and_never_ranked(bench):
    said = call(bench, "run", "--fold", "2", "--only", "people", "--only", "leaderboard")
    assert said.code == 0
    rows = ask(bench, "SELECT * FROM leaderboard WHERE accuracy IS NOT NULL AND kind != 'reference'")
    assert [(r["classifier"], r["folds"], r["rank"], r["partial"]) for r in rows] == [("people", "2", None, True)]
    assert "folds 2 of 1,2,3" in said.out


def test_a_limited_run_is_marked_and_kept_apart(done):
    before = ask(done, "SELECT * FROM leaderboard")
    said = call(done, "run", "--limit", "2", "--only", "knn", "--only", "leaderboard")
    assert said.code == 0
    assert "limited run" in said.out
    (row,) = ask(done, "SELECT * FROM leaderboard WHERE study = 'bench_limit2' AND classifier = 'knn'")
    assert (row["clips"], row["rank"], row["partial"]) == (2 * 3, None, True)
    assert ask(done, "SELECT * FROM leaderboard WHERE study = 'bench'") == before


# ----------------------------------------------------------------------------------------------------------- exit codes


def test_a_failed_step_gives_1_and_is_named_once(bench):
    with (bench.folder / "readings.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    said = call(bench, "run", "--only", "people")
    assert said.code == 1
    assert said.err.count("bench/predictions/people") == 1
    assert "failed bench/predictions/people (folds 1,2,3): " in said.err
    assert "'loud'" in said.err and "line 22" in said.err
    assert "Traceback" not in said.err


def test_a_defect_of_ours_keeps_its_traceback(bench, monkeypatch):
    def broken(*arguments):
        raise KeyError("a defect")

    monkeypatch.setattr("vlm_audio_pipeline.datasets.inspection.inspect", broken)
    said = call(bench, "run", "--fold", "1", "--only", "clips")
    assert said.code == 1
    assert "failed bench/clips (fold 1): KeyError: 'a defect'" in said.err
    assert "in broken" in said.err  # where it happened


def test_ctrl_c_gives_130_and_says_that_nothing_is_lost(bench, monkeypatch):
    from vlm_audio_pipeline.datasets import inspection

    inspect, pressed = inspection.inspect, []

    def pressing(*arguments):
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        return inspect(*arguments)

    monkeypatch.setattr(inspection, "inspect", pressing)
    said = call(bench, "run")
    assert said.code == 130
    assert said.err == "stopped; what was finished is kept, and the same command goes on from there\n"
    assert call(bench, "run").last.startswith(f"{STEPS} steps, ")


def test_ctrl_c_between_two_steps_is_not_forgotten(bench, monkeypatch):
    """Dagster keeps the signal to itself between steps, and forgets it when no step follows."""
    from vlm_audio_pipeline.orchestration import assets

    def pressing(*arguments):
        signal.raise_signal(signal.SIGINT)
        return {}

    monkeypatch.setattr(assets, "preview", pressing)
    said = call(bench, "run", "--only", "clips")
    assert said.code == 130
    assert said.err.startswith("stopped")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "demoo"], ["'demoo'", "did you mean 'demo'?"]),
        (["plan", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "demo", "--only", "classical_nn"], ["'classical_nn'", "predictions/classical_knn"]),
        (["run", "demo", "--fold", "6"], ["[1, 2, 3, 4, 5]", "got 6"]),
        (["fetch", "demoo"], ["'demoo'"]),
        (["refresh", "demoo"], ["'demoo'"]),
        (["leaderboard"], ["vlm-audio run demo"]),
        (["show", "1-2-A"], ["vlm-audio run demo"]),
        (["sql", "SELECT 1"], ["vlm-audio run demo"]),
        (["sql", "SELECT 1", "--format", "xml"], ["table, csv or json", "'xml'"]),
        (["export", "demo"], ["demo"]),
        (["init", "nowhere.csv"], ["nowhere.csv"]),
    ],
)
def test_wrong_arguments_give_2_and_a_message(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM_AUDIO_DATA", str(tmp_path / "data"))
    refused(vlm_audio(*arguments), *words)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["run"], ["run", "demo", "--limit", "0"], ["run", "demo", "--fold", "one"], ["show"]]
)
def test_wrong_usage_gives_2_and_points_to_help(arguments):
    said = vlm_audio(*arguments)
    assert said.code == 2
    assert "--help" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["run", "plan", "fetch", "refresh"])
def test_a_wrong_study_file_is_named_with_its_key(bench, command):
    bench.write(bench.changed("classifiers", "knn", encoder="band"))
    refused(call(bench, command), "bench.yaml", "classifiers.knn", "did you mean 'bands'?")
    assert not bench.layout.root.exists()


def test_a_study_file_that_is_no_yaml(bench):
    (bench.folder / "bench.yaml").write_text("name: [bench\n")
    refused(call(bench, "run"), "bench.yaml")


# ---------------------------------------------------------------------------------------------------- looking at results


def test_wrong_sql_is_told_in_the_databases_own_words(done):
    refused(vlm_audio("sql", "SELECT acuracy FROM leaderboard", data=done.layout.root), "acuracy", "accuracy")


def test_sql_as_csv_and_json(done):
    query = "SELECT clip, label, fold FROM clips ORDER BY clip"
    want = sorted((r["id"], r["label"], r["fold"]) for r in done.rows)
    said = vlm_audio("sql", query, "--format", "csv", data=done.layout.root)
    assert [(r["clip"], r["label"], int(r["fold"])) for r in csv.DictReader(io.StringIO(said.out))] == want
    assert [(r["clip"], r["label"], r["fold"]) for r in ask(done, query)] == want
    assert said.err == ""


def test_a_sum_in_json_is_a_number(done):
    """DuckDB sums whole numbers in 128 bits, which Arrow hands on as decimals."""
    assert ask(done, "SELECT sum(fold) AS s, 1.5::DECIMAL(4, 1) AS d FROM clips") == [{"s": 4 * (1 + 2 + 3), "d": 1.5}]


def test_sql_as_a_table_cuts_no_column(done):
    said = vlm_audio("sql", "SELECT * FROM leaderboard", data=done.layout.root)
    header, *rows = said.out.splitlines()
    assert header.split()[:4] == ["study", "rank", "classifier", "kind"]
    assert header.split()[-1] == "note"
    assert len(rows) == 3 + 2  # chance and majority


def test_sql_that_gives_nothing(done):
    assert vlm_audio("sql", "SELECT clip FROM rejected_clips", data=done.layout.root).out.split() == ["clip"]
    assert ask(done, "SELECT clip FROM rejected_clips") == []


def test_a_leaderboard_is_in_the_order_of_its_ranks(done):
    said = vlm_audio("leaderboard", "bench", data=done.layout.root)
    assert said.code == 0
    accuracies = [float(x) for x in re.findall(r"(?:score|judgement)\s+([01]\.\d{3})", said.out)]
    ranked = re.findall(r"^(\d)  (\w+)", said.out, re.M)
    assert [int(rank) for rank, _ in ranked] == sorted(int(rank) for rank, _ in ranked)
    assert {name for _, name in ranked} == {"probe", "knn"}  # people judged 10 of 12 clips
    assert accuracies[: len(ranked)] == sorted(accuracies[: len(ranked)], reverse=True)
    assert "10 of 12 clips" in said.out


def test_a_leaderboard_nobody_ran(done):
    refused(vlm_audio("leaderboard", "other", data=done.layout.root), "other", "vlm-audio run other")


def test_a_narrow_terminal_loses_no_value(done):
    reading, writing = pty.openpty()
    program = subprocess.Popen(
        [PROGRAM, "leaderboard", "--data", str(done.layout.root)],
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
    assert "right / asked" in text and "12 / 12" in text and "20 / 20" in text


def test_show_tells_all_about_a_clip(done):
    said = vlm_audio("show", "1-low-0", data=done.layout.root)
    assert said.code == 0
    for word in ("1-low-0", "audio/1-low-0.wav", "probe", "knn", "people", "ann", "bob", "high"):
        assert word in said.out
    one = vlm_audio("show", "1-low-0", "--classifier", "knn", data=done.layout.root)
    assert "knn" in one.out and "probe" not in one.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1-low-9"], ["clip '1-low-9'", "did you mean '1-low-"]),
        (["zzz"], ["clip 'zzz'", "1-high-0", "12 in all"]),
        (["1-low-0", "--classifier", "nkn"], ["classifier 'nkn'", "did you mean 'knn'?"]),
        (["1-low-0", "--study", "bnch"], ["study 'bnch'", "did you mean 'bench'?"]),
        (["3-high-1", "--classifier", "people"], ["3-high-1", "people"]),  # both are known, the pair is not
    ],
)
def test_show_what_is_not_there(done, arguments, words):
    refused(vlm_audio("show", *arguments, data=done.layout.root), *words)


def test_refresh_sees_what_changed(done):
    assert "everything is fresh" in call(done, "refresh").out
    done.record("1-low-0", "low", seed=99)
    said = call(done, "refresh")
    assert said.code == 0
    assert re.search(r"4 sources seen; \d+ to do; `vlm-audio run .*bench.yaml` does it", said.out)  # 3 folds, readings
    assert call(done, "refresh").out == said.out  # it looks, and runs nothing


def test_refresh_rebuilds_the_catalogue(done):
    done.layout.results.unlink()
    assert call(done, "refresh").code == 0
    assert done.layout.results.exists()


def test_fetch_says_where_the_dataset_lies(bench):
    said = call(bench, "fetch")
    assert said.code == 0
    assert "12 clips of clips.csv" in said.out and str(bench.folder) in said.out.replace("\n", "")


def test_export_lists_what_it_wrote(done, tmp_path):
    said = vlm_audio("export", "bench", "--out", tmp_path / "out", data=done.layout.root)
    assert said.code == 0
    written = [Path(line) for line in said.out.split()]
    assert written and all(p.is_file() for p in written)
    assert any(p.name == "leaderboard.csv" for p in written)


# -------------------------------------------------------------------------------------------------------- other commands


def test_init_then_run(bench):
    (bench.folder / "bench.yaml").unlink()
    said = vlm_audio("init", bench.folder / "clips.csv")
    assert said.code == 0
    (path,) = bench.folder.glob("*.yaml")
    assert f"vlm-audio run {path}" in said.out
    refused(vlm_audio("init", bench.folder / "clips.csv"), "there already", "--out")
    plan = vlm_audio("plan", path, data=bench.layout.root)
    assert plan.code == 0 and "clips" in plan.out
    ran = vlm_audio("run", path, "--only", "clips", data=bench.layout.root)
    assert ran.code == 0
    assert ran.last.startswith("3 steps, 3 runs, ")  # the csv has 3 folds


def test_schema_is_json_that_names_the_keys_of_a_study():
    said = vlm_audio("schema")
    assert said.code == 0
    assert {"name", "dataset", "encoders", "classifiers"} <= set(json.loads(said.out)["properties"])


def test_studies_lists_files_that_load():
    said = vlm_audio("studies")
    assert said.code == 0
    files = [Path(word) for word in said.out.split() if word.endswith(".yaml")]
    assert {yaml.safe_load(p.read_text())["name"] for p in files} >= {"demo", "baselines"}


def test_doctor_finds_this_machine_well_and_a_wrong_folder_not(tmp_path):
    said = vlm_audio("doctor", data=tmp_path / "data")
    assert said.code == 0, said.out
    assert "Python" in said.out and "bad" not in said.out
    (tmp_path / "file").write_text("no folder")
    said = vlm_audio("doctor", data=tmp_path / "file")
    assert said.code == 1
    assert str(tmp_path / "file") in said.out.replace("\n", "")


def test_a_part_taken_away_is_named_in_the_plan(done):
    done.graph().parts(Node("embeddings/bands", 3))["embeddings"].unlink()
    said = call(done, "plan")
    assert re.search(r"embeddings/bands\s+3\s+missing", said.out)
    assert "1 to do" in said.out


def test_a_page_that_was_deleted_is_written_again(done):
    said = call(done, "report")
    assert said.code == 0, said.err
    page = Path(said.out.strip())
    whole = page.read_bytes()
    assert call(done, "report").out == said.out
    shutil.rmtree(page.parent)
    assert call(done, "report").out == said.out
    assert b"bench" in page.read_bytes() and abs(len(page.read_bytes()) - len(whole)) < 100, "but for the time"


def test_render_writes_pictures_and_a_sheet(bench, tmp_path):
    study = bench.changed(renderings={"small": {"rate": 8000, "n_fft": 256, "hop_length": 64, "size": 32}})
    path, data = bench.write(study), bench.layout.root
    said = vlm_audio("render", path, "small", "--clips", 2, "--out", tmp_path / "out", data=data)
    assert (said.code, said.last.split()[0]) == (0, "2")
    assert {p.suffix for p in (tmp_path / "out").rglob("*.*")} == {".png"}
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    wrong = vlm_audio("render", path, "smal", "--out", tmp_path / "out", data=data)
    assert wrong.code == 2 and "did you mean 'small'?" in wrong.err


def test_renderings_lists_presets_with_their_sources(tmp_path):
    said = vlm_audio("renderings", "--out", tmp_path / "presets.png")
    assert said.code == 0
    assert "paper_linear_frequency" in said.out and "arxiv.org/abs/2411.12058" in said.out
    assert (tmp_path / "presets.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["run", "fetch"])
def test_a_data_folder_that_cannot_be_made_is_said(bench, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    said = vlm_audio(command, bench.write(), data=tmp_path / "file" / "data")
    assert said.code == 2 and "the data folder must be one that can be written to" in said.err
