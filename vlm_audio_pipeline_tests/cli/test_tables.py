import io

import pyarrow as pa
import pytest
from rich.console import Console

from vlm_audio_pipeline.cli.printing import console
from vlm_audio_pipeline.cli.rows_view import cell, rows_table
from vlm_audio_pipeline.cli.tables import contrasts_table, leaderboard_table, prediction_view
from vlm_audio_pipeline.cli.verdicts_view import verdicts_table
from vlm_audio_pipeline_tests.reports.leaderboard_rows import NOT_RUN, PARTIAL, RANKED


def print_lines(renderable, width: int = 120) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(renderable)
    return [line.rstrip() for line in file.getvalue().splitlines()]


NO_INTERVAL = {"accuracy_low": None, "accuracy_high": None}
CHANCE = {**PARTIAL, **NO_INTERVAL, "classifier": "chance", "control": "none", "kind": "reference", "scoring": ""}
CHANCE |= {"correct": None, "partial": False, "note": ""}


def test_the_leaderboard_table():
    best = {**RANKED, "accuracy_low": 0.6, "accuracy_high": 0.8751}
    partial, absent = ({**row, **NO_INTERVAL} for row in (PARTIAL, NOT_RUN))
    assert print_lines(leaderboard_table([best, partial, CHANCE, absent], "sound")) == [
        "sound",
        "   classifier    scoring  accuracy  95 % interval  correct / total   macro F1  training clips",
        "1  best_probe    score       0.750  0.600 - 0.875          30 / 40      0.732              20",
        "   part @ blank  score       0.100   not computed           2 / 20  undefined            none",
        "   chance                    0.100       expected",
        "part @ blank: 20 of 40 clips",
        "absent: not run: weights of [x] missing, 100% & $HOME_DIR",
    ]


def test_a_cost_column_is_shown_if_any_row_has_a_cost():
    paid, free = {**RANKED, **NO_INTERVAL, "usd": 1.236}, {**RANKED, **NO_INTERVAL, "usd": None}
    lines = print_lines(leaderboard_table([paid, free, {**NOT_RUN, "usd": None}], "sound"))
    assert [line.split()[-1] for line in lines[1:4]] == ["USD", "1.24", "none"]
    assert print_lines(leaderboard_table([free], "sound"))[1].split()[-1] == "clips"


def test_a_note_of_several_rows_is_printed_once():
    rows = [{**NOT_RUN, "classifier": name, "note": "not run: no network"} for name in ("a", "b", "a")]
    assert print_lines(leaderboard_table(rows, "sound"))[2:] == ["a, b: not run: no network"]


def test_the_baseline_of_a_few_shot_model_is_below_it():
    few_shot_rows = [
        {**RANKED, **NO_INTERVAL, "classifier": name, "scoring": scoring, "note": ""}
        for name, scoring in (("a", "likelihood"), ("b", "score"), ("a", "generation"), ("a", "examples_knn"))
    ]
    lines = print_lines(leaderboard_table([few_shot_rows[3], *few_shot_rows[:3]], "sound"))[2:]
    assert [line.split()[1:3] for line in lines] == [
        ["a", "likelihood"],
        ["k-NN", "on"],
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


def test_the_contrasts_table():
    undecided = {
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
    not_compared = {
        **CONTRAST,
        "against": "[x]",
        "difference": None,
        "verdict": "not compared",
        "reason": "[x] was not run: no network; get it; y was not run: no key",
    }
    rows = [CONTRAST, undecided, not_compared, {**not_compared, "against": "y"}]
    assert print_lines(contrasts_table(rows, "sound")) == [
        "sound",
        "classifier          against       points   95 % interval  p (Holm)  clips  verdict",
        "janus (likelihood)  chance         +20.0  +12.3 to +27.7   < 0.001    400  better",
        "janus (likelihood)  clap @ blank    -1.0    -5.0 to +3.0     0.500    320  cannot tell apart, without tuning folds",
        "janus (likelihood): not compared with [x], y: [x] was not run; y was not run",
    ]
    assert print_lines(contrasts_table([not_compared], "sound"))[0] == "sound", "without rows there are no headings"


def test_the_contrasts_table_says_what_is_corrected():
    first, second = print_lines(contrasts_table([{**CONTRAST, "holm_over": 4}], "sound"), width=300)[-2:]
    assert first.startswith("janus (likelihood)")
    assert second == (
        "points: accuracy of the first side minus that of the second, in percentage points; interval: by source recording, not "
        "corrected; p: permutation test by source recording, corrected for 4 tests (Holm)"
    )


def test_the_verdicts_of_a_demonstration_say_so_in_the_title():
    caution = "Demonstration, not a finding: the sounds are synthetic."
    columns = (
        "accuracy",
        "blank_accuracy",
        "time_shuffled_accuracy",
        "audio_accuracy",
        "pixels_accuracy",
        "chance_accuracy",
    )
    row = dict.fromkeys((*columns, "audio_classifier", "pixels_classifier"))
    row |= {
        "classifier": "janus_one_shot_in_30",
        "scoring": "likelihood",
        "answer": "it can",
        "accuracy": 0.98,
        "caution": caution,
    }
    title, _, numbers, *notes = print_lines(verdicts_table([row], "demo"), width=200)
    assert title == "demo (demonstration, not a finding): can it hear what it sees?"
    assert numbers.split()[-6:] == ["0.980", "not", "run", "not", "run", "none"]
    assert notes == [
        caution,
        "not run: the study has no such control for the model, or the control is not complete",
        "none: no such baseline has results for all clips of the model",
    ]


def test_a_contrast_with_examples_has_a_note():
    few_shot = {**CONTRAST, "interval_scope": "clips, for these examples"}
    last = print_lines(contrasts_table([few_shot], "sound"))[-1]
    assert last == "janus (likelihood) against chance: interval and p for these examples"


def test_the_verdicts_fit_into_80_columns():
    numbers = dict.fromkeys(
        f"{name}{column}"
        for name in ("chance", "blank", "time_shuffled", "audio", "pixels")
        for column in ("_accuracy", "_classifier")
    )
    can = numbers | {"classifier": "janus", "scoring": "likelihood", "answer": "it can", "accuracy": 0.98}
    can |= {"chance_accuracy": 0.1, "blank_accuracy": 0.1, "time_shuffled_accuracy": 0.615, "audio_accuracy": 0.9751}
    can |= {"audio_classifier": "clap", "statement": "janus can hear what it sees."}
    absent = numbers | {"classifier": "gpt[4o]", "scoring": "", "answer": "cannot be decided", "accuracy": None}
    absent |= {"reason": "not run: no key"}
    lines = print_lines(verdicts_table([can, absent], "sound"), width=80)
    assert lines == [
        "sound: can it hear what it sees?",
        "model               answer  image  blank  shuffled  audio",
        "janus (likelihood)  it can  0.980  0.100     0.615  0.975",
        "chance: 0.100, audio: clap",
        "cannot be decided for gpt[4o]: not run (the reason is below the leaderboard)",
    ]
    assert print_lines(verdicts_table([absent, {**absent, "classifier": "b"}], "sound")) == [
        "sound: can it hear what it sees?",
        "cannot be decided for gpt[4o], b: not run (the reason is below the leaderboard)",
    ]
    long_name = {**can, "classifier": "janus_one_shot_in_30"}  # 20 characters, 33 with the scoring
    assert max(map(len, print_lines(verdicts_table([long_name, absent], "sound"), width=80))) <= 82
    undecided = can | {"answer": "cannot be decided", "holm_over": 4, "statement": "Not shown (10.0 %, p = 1.000)."}
    assert print_lines(verdicts_table([undecided], "sound"), width=300)[-2:] == [
        "Not shown (10.0 %, p = 1.000).",
        "p: corrected for 4 tests against chance and blank images (Holm); declared comparisons are corrected for their own number "
        "of tests, so the same test can have another p there",
    ]
    pixels = {**can, "pixels_accuracy": 0.66, "pixels_classifier": "probe"}
    assert print_lines(verdicts_table([pixels, absent], "sound"))[1].endswith("audio  pixels")


def test_an_empty_leaderboard_table():
    assert print_lines(leaderboard_table([], "empty"))[0] == "empty"


def test_the_rows_table():
    rows = pa.table({"name": ["a [b]", None], "n": [1, 20], "share": [0.5, 1 / 3]})
    assert print_lines(rows_table(rows)) == ["name    n     share", "a [b]   1       0.5", "       20  0.333333"]


def test_rows_beyond_the_maximum_are_counted():
    lines = print_lines(rows_table(pa.table({"n": list(range(60))}), max_rows=50))
    assert lines[0].strip() == "n"
    assert [line.strip() for line in lines[1:51]] == [str(n) for n in range(50)]
    assert lines[51:] == ["... and 10 more rows; --format csv prints all"]


def test_a_rows_table_without_rows():
    assert print_lines(rows_table(pa.table({"n": pa.array([], pa.int64())}))) == ["n"]
    assert print_lines(rows_table(pa.table({}))) == [""]


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
def test_cell_texts(value, text):
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


def test_the_prediction_view():
    assert print_lines(prediction_view([PREDICTION])) == [
        "demo: 1-7-A dog",
        "source 7  fold 1  file dog.wav  duration_s 5  sample_rate_hz 44100  channels 1  peak 0.5  rms 0.1",
        "",
        "probe (probe, score, control none, trial 0): dog  correct",
        "  encoder clap  training_clips 32",
        "  dog       0.7500  ███████████████",
        "  rooster   0.2500  █████",
    ]


def test_predictions_of_several_studies_are_grouped_by_study():
    other = {**PREDICTION, "study": "mine", "label": "cat", "fold": 3, "correct": False, "scores": None}
    assert print_lines(prediction_view([PREDICTION, PREDICTION | {"trial": 1, "scores": None}, other])) == [
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


def test_an_unparseable_response_is_printed():
    row = {
        **PREDICTION,
        "predicted": None,
        "outcome": "unparseable",
        "correct": False,
        "scores": None,
        "text": "[a] cat",
    }
    lines = print_lines(prediction_view([PREDICTION, row]))
    assert lines.count("demo: 1-7-A dog") == 1
    assert lines[-4:] == [
        "",
        "probe (probe, score, control none, trial 0): (unparseable)  wrong",
        "  encoder clap  training_clips 32",
        "  response: [a] cat",
    ]


def test_the_error_console_writes_to_stderr(capsys):
    console(stderr=True).print("oh")
    console().print("fine")
    out, err = capsys.readouterr()
    assert (out, err) == ("fine\n", "oh\n")


def test_an_outcome_is_printed_in_brackets_and_a_class_of_its_name_without():
    predicted = {**PREDICTION, "predicted": "error", "outcome": "answered"}
    failed = {**PREDICTION, "predicted": None, "outcome": "error", "correct": False}
    text = "\n".join(print_lines(prediction_view([predicted, failed])))
    assert "trial 0): error  correct" in text
    assert "trial 0): (error)  wrong" in text
