import io

import pyarrow as pa
import pytest
from rich.console import Console

from vlm_audio_pipeline.cli.printing import console
from vlm_audio_pipeline.cli.tables import (
    cell,
    contrasts_table,
    leaderboard_table,
    prediction_view,
    rows_table,
)
from vlm_audio_pipeline_tests.reports.leaderboard_rows import NOT_RUN, PARTIAL, RANKED


def shown(what, width: int = 120) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(what)
    return [line.rstrip() for line in file.getvalue().splitlines()]


NO_INTERVAL = {"accuracy_low": None, "accuracy_high": None}
CHANCE = {**PARTIAL, **NO_INTERVAL, "classifier": "chance", "control": "none", "kind": "reference", "scoring": ""}
CHANCE |= {"correct": None, "partial": False, "note": ""}


def test_a_leaderboard():
    best = {**RANKED, "accuracy_low": 0.6, "accuracy_high": 0.8751}
    part, absent = ({**row, **NO_INTERVAL} for row in (PARTIAL, NOT_RUN))
    assert shown(leaderboard_table([best, part, CHANCE, absent], "sound")) == [
        "sound",
        "   classifier    scoring  accuracy  95 % interval  correct / total  macro F1  training clips",
        "1  best_probe    score       0.750  0.600 - 0.875          30 / 40     0.732              20",
        "   part @ blank  score       0.100              -           2 / 20         -               -",
        "   chance                    0.100              -                -         -               -",
        "   absent                        -              -                -         -               -",
        "part @ blank: 2 of 20 predictions, 20 of 40 clips",
        "absent: not run: weights of [x] missing, 100% & $HOME_DIR",
    ]


def test_what_was_paid_has_a_column_where_anything_was():
    paid, free = {**RANKED, **NO_INTERVAL, "usd": 1.236}, {**RANKED, **NO_INTERVAL, "usd": None}
    lines = shown(leaderboard_table([paid, free, {**NOT_RUN, "usd": None}], "sound"))
    assert [line.split()[-1] for line in lines[1:5]] == ["USD", "1.24", "-", "-"]
    assert shown(leaderboard_table([free], "sound"))[1].split()[-1] == "clips"


def test_the_baseline_of_a_few_shot_model_stands_below_it():
    few = [
        {**RANKED, **NO_INTERVAL, "classifier": name, "scoring": scoring, "note": ""}
        for name, scoring in (("a", "likelihood"), ("b", "score"), ("a", "generation"), ("a", "examples_knn"))
    ]
    lines = shown(leaderboard_table([few[3], *few[:3]], "sound"))[2:]
    assert [line.split()[1:3] for line in lines] == [
        ["a", "likelihood"],
        ["a", "examples_knn"],
        ["b", "score"],
        ["a", "generation"],
    ]


CONTRAST = {
    "classifier": "janus",
    "scoring": "likelihood",
    "control": "none",
    "against": "chance",
    "against_scoring": None,
    "against_control": "none",
    "subset": "all",
    "difference": 0.2,
    "low": 0.1234,
    "high": 0.2766,
    "p_holm": 0.0002,
    "clips": 400,
    "verdict": "better",
    "statement": "",
}


def test_contrasts():
    same = {
        **CONTRAST,
        "against": "clap",
        "against_scoring": "score",
        "against_control": "blank",
        "subset": "without tuning folds",
        "difference": -0.01,
        "low": -0.05,
        "high": 0.03,
        "p_holm": 0.5,
        "clips": 320,
        "verdict": "cannot tell apart",
    }
    none = {**CONTRAST, "against": "[x]", "difference": None, "verdict": "not compared", "statement": "Because [x]."}
    assert shown(contrasts_table([CONTRAST, same, none], "sound")) == [
        "sound",
        "classifier          against       points   95 % interval  p (Holm)  clips  verdict",
        "janus (likelihood)  chance         +20.0  +12.3 to +27.7   < 0.001    400  better",
        "janus (likelihood)  clap @ blank    -1.0    -5.0 to +3.0     0.500    320  cannot tell apart, without tuning folds",
        "janus (likelihood)  [x]                -               -         -      -  not compared",
        "Because [x].",
    ]


def test_a_leaderboard_of_nothing():
    assert shown(leaderboard_table([], "empty"))[0] == "empty"


def test_rows():
    rows = pa.table({"name": ["a [b]", None], "n": [1, 20], "share": [0.5, 1 / 3]})
    assert shown(rows_table(rows)) == ["name    n     share", "a [b]   1       0.5", "       20  0.333333"]


def test_rows_beyond_the_most_are_counted():
    lines = shown(rows_table(pa.table({"n": list(range(60))}), max_rows=50))
    assert lines[0].strip() == "n"
    assert [line.strip() for line in lines[1:51]] == [str(n) for n in range(50)]
    assert lines[51:] == ["... and 10 more rows; --format csv prints all"]


def test_no_rows():
    assert shown(rows_table(pa.table({"n": pa.array([], pa.int64())}))) == ["n"]
    assert shown(rows_table(pa.table({}))) == [""]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (1 / 3, "0.333333"),
        (1e-9, "1e-09"),
        (0.0, "0"),
        (7, "7"),
        (True, "True"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
    ],
)
def test_cells(value, text):
    assert cell(value) == text


PREDICTION = {
    "study": "demo",
    "clip": "1-7-A",
    "label": "dog",
    "source": "7",
    "fold": 1,
    "file": "dog.wav",
    "duration_s": 5.0,
    "sample_rate_hz": 44100,
    "channels": 1,
    "peak": 0.5,
    "rms": 0.1,
    "classifier": "probe",
    "kind": "probe",
    "scoring": "score",
    "control": "none",
    "trial": 0,
    "predicted": "dog",
    "outcome": "answered",
    "correct": True,
    "encoder": "clap",
    "training_clips": 32,
    "scores": [("dog", 0.75), ("rooster", 0.25)],
}


def test_a_prediction():
    assert shown(prediction_view([PREDICTION])) == [
        "demo: 1-7-A dog",
        "source 7  fold 1  file dog.wav  duration_s 5  sample_rate_hz 44100  channels 1  peak 0.5  rms 0.1",
        "",
        "probe (probe, score, control none, trial 0): dog  correct",
        "  encoder clap  training_clips 32",
        "  dog       0.7500  ███████████████",
        "  rooster   0.2500  █████",
    ]


def test_predictions_of_several_studies_stand_under_their_names_with_their_facts_of_the_clip():
    other = {**PREDICTION, "study": "mine", "label": "cat", "fold": 3, "correct": False, "scores": None}
    assert shown(prediction_view([PREDICTION, PREDICTION | {"trial": 1, "scores": None}, other])) == [
        "demo: 1-7-A dog",
        "source 7  fold 1  file dog.wav  duration_s 5  sample_rate_hz 44100  channels 1  peak 0.5  rms 0.1",
        "",
        "probe (probe, score, control none, trial 0): dog  correct",
        "  encoder clap  training_clips 32",
        "  dog       0.7500  ███████████████",
        "  rooster   0.2500  █████",
        "",
        "probe (probe, score, control none, trial 1): dog  correct",
        "  encoder clap  training_clips 32",
        "",
        "mine: 1-7-A cat",
        "source 7  fold 3  file dog.wav  duration_s 5  sample_rate_hz 44100  channels 1  peak 0.5  rms 0.1",
        "",
        "probe (probe, score, control none, trial 0): dog  wrong",
        "  encoder clap  training_clips 32",
    ]


def test_an_answer_that_was_no_label():
    row = {
        **PREDICTION,
        "predicted": None,
        "outcome": "unparseable",
        "correct": False,
        "scores": None,
        "text": "[a] cat",
    }
    lines = shown(prediction_view([PREDICTION, row]))
    assert lines.count("demo: 1-7-A dog") == 1
    assert lines[-4:] == [
        "",
        "probe (probe, score, control none, trial 0): unparseable  wrong",
        "  encoder clap  training_clips 32",
        "  response: [a] cat",
    ]


def test_the_console_of_errors_writes_to_stderr(capsys):
    console(stderr=True).print("oh")
    console().print("fine")
    out, err = capsys.readouterr()
    assert (out, err) == ("fine\n", "oh\n")
