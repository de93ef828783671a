"""Every table fits into 80 columns where the terminal, or the variable COLUMNS, says so."""

import pytest
from rich.console import Console

from vlm_audio_pipeline.cli.power_view import show_power
from vlm_audio_pipeline.cli.printing import PlainTable, print_view
from vlm_audio_pipeline.cli.published_view import published_view
from vlm_audio_pipeline.cli.tables import contrasts_table, leaderboard_table
from vlm_audio_pipeline.cli.verdicts_view import verdicts_table
from vlm_audio_pipeline.evaluation.power import PlannedContrast
from vlm_audio_pipeline.planning.contrast_power import DeclaredContrast
from vlm_audio_pipeline_tests.cli.program import vlm_audio
from vlm_audio_pipeline_tests.cli.test_published_view import ROW as PUBLISHED
from vlm_audio_pipeline_tests.cli.test_tables import CONTRAST
from vlm_audio_pipeline_tests.reports.leaderboard_rows import RANKED

LONG = "aimv2_first_patch_probe"
COST = {"usd": 12.5, "seconds": 1234.5, "accuracy_low": 0.6, "accuracy_high": 0.8751}


def print_lines(show) -> list[str]:
    console = Console(width=80, highlight=False)
    with console.capture() as capture:
        show(console)
    return capture.get().splitlines()


@pytest.fixture(autouse=True)
def width_of_80(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def verdict():
    names = ("chance", "blank", "time_shuffled", "audio", "pixels")
    row = dict.fromkeys([f"{name}_accuracy" for name in names], 0.5) | dict.fromkeys(
        [f"{n}_classifier" for n in names], LONG
    )
    return row | {
        "classifier": LONG,
        "scoring": "likelihood",
        "answer": "cannot be decided",
        "accuracy": 0.5,
        "statement": "why",
    }


TABLES = {
    "leaderboard": lambda: leaderboard_table(
        [{**RANKED, **COST, "classifier": LONG, "control": "time_shuffled"}], "t " * 90
    ),
    "contrasts": lambda: contrasts_table(
        [
            {
                **CONTRAST,
                "classifier": LONG,
                "against": LONG,
                "against_control": "time_shuffled",
                "subset": "without tuning folds",
            }
        ],
        "c",
    ),
    "verdicts": lambda: verdicts_table([verdict()], "study"),
    "published": lambda: published_view([{**PUBLISHED, "classifier": LONG}], "published and measured"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_long_names_fits(name):
    lines = print_lines(lambda out: print_view(out, TABLES[name]()))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines), "nothing is cut"


def test_the_differences_that_contrasts_detect_fit():
    sizes = PlannedContrast((5,) * 80, (3, 3), (3, 3), 19, None)
    contrast = DeclaredContrast(LONG, f"{LONG}@time_shuffled", sizes)
    lines = print_lines(lambda out: show_power([contrast], out, 0.05))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_columns_that_are_left_out_are_named_and_the_important_ones_stay():
    lines = print_lines(lambda out: print_view(out, TABLES["leaderboard"]()))
    heading = next(line for line in lines if "classifier" in line)
    assert all(name in heading for name in ("accuracy", "95 % interval", "correct / total"))
    assert "training clips" not in heading
    note = " ".join(" ".join(lines[-3:]).split())
    assert (
        "left out, because the terminal is narrow: " in note
        and "training clips" in note
        and "--json has all columns" in note
    )


def test_without_a_width_nothing_is_left_out(monkeypatch):
    monkeypatch.delenv("COLUMNS")
    lines = print_lines(lambda out: print_view(out, TABLES["leaderboard"]()))
    assert "training clips" in next(line for line in lines if "classifier" in line)


def test_an_optional_column_is_left_out_only_if_the_table_is_too_wide():
    def table(width):
        table = PlainTable()
        table.add_column("a" * width, no_wrap=True)
        table.add_column("b", no_wrap=True, optional=True)
        table.add_row("1", "2")
        return table

    # A column of n characters, two spaces and a column of one character
    assert print_lines(lambda out: print_view(out, table(77)))[0].split() == ["a" * 77, "b"]
    assert print_lines(lambda out: print_view(out, table(78)))[0].split() == ["a" * 78]


def test_a_name_that_is_too_long_is_cut_after_punctuation():
    def table(name):
        table = PlainTable()
        table.add_column("a" * 64, no_wrap=True)
        table.add_column("name")
        table.add_row("", name)
        return table

    # 80 columns - 64 - 2 spaces leave 14
    lines = print_lines(lambda out: print_view(out, table("clap_zero_shot_in_words of janus@time_shuffled")))[1:]
    assert [line.strip() for line in lines if line.strip()] == [
        "clap_zero_",
        "shot_in_words",
        "of janus@time_",
        "shuffled",
    ]
    lines = print_lines(lambda out: print_view(out, table("y" * 20)))[1:]
    assert [line.strip() for line in lines if line.strip()] == ["y" * 14, "y" * 6], (
        "without punctuation it is cut where the line ends"
    )


def test_the_presets_fit():
    assert max(map(len, vlm_audio("renderings").out.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        ("studies",),
        ("leaderboard", "bench"),
        ("plan", "bench"),
        ("plan", "bench", "--difference", "0.1"),
        ("run", "bench"),
        ("show", "1-low-0"),
        ("sql", "SELECT * FROM leaderboard"),
        ("prune",),
        pytest.param(("doctor",), marks=pytest.mark.slow),  # imports torch
    ],
    ids=" ".join,
)
def test_the_output_of_a_command_fits(done, arguments):
    out = vlm_audio(*arguments, data=done.data_folder.root).out
    assert out
    assert [line for line in out.splitlines() if len(line) > 80] == []
