"""Hostile strings in every place where foreign text is shown: they stay text in every output."""

import csv
import io
import itertools
import json
import unicodedata
import warnings

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vlm_audio_pipeline.cli.plan_view import PlainTable
from vlm_audio_pipeline.cli.printing import PlainText, console, print_view
from vlm_audio_pipeline.cli.progress import progress_bars
from vlm_audio_pipeline.cli.published_view import published_view
from vlm_audio_pipeline.cli.rows_view import rows_table
from vlm_audio_pipeline.cli.tables import contrasts_table, leaderboard_table, prediction_view
from vlm_audio_pipeline.cli.verdicts_view import verdicts_table
from vlm_audio_pipeline.contracts import escapes
from vlm_audio_pipeline.dagster_app.previews import markdown_table
from vlm_audio_pipeline.reports.annotation_sheet import sheet_page
from vlm_audio_pipeline.reports.export import write_csv
from vlm_audio_pipeline.reports.fiftyone import _classification
from vlm_audio_pipeline.reports.figures import confusion_chart, measure_charts
from vlm_audio_pipeline.reports.latex import leaderboard_tex
from vlm_audio_pipeline.reports.page.report_writer import as_script
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving
from vlm_audio_pipeline_tests.cli.program import run_command, vlm_audio
from vlm_audio_pipeline_tests.cli.test_published_view import ROW as PUBLISHED
from vlm_audio_pipeline_tests.cli.test_tables import CONTRAST, PREDICTION
from vlm_audio_pipeline_tests.reports.leaderboard_rows import NOT_RUN, PARTIAL, RANKED, leaderboard

NASTY = (
    *("[/INST]", "[/mnt/audio]", "[bold]", "[link=http://x]y[/link]", ":cat:", "\\[x]"),
    *(
        "\x1b[31m",
        "\x1b]0;title\x07",
        "\x9b2J",
        "\r",
        "\x08",
        "\x00",
        "\x7f",
        "\u202egnp.exe",
        "\u2066",
        "\u200b",
        "\u2028",
        "\ufeff",
    ),
    *(
        "<script>alert(1)</script>",
        "</script>",
        "<img src=x onerror=alert(1)>",
        "&amp;",
        '" onclick="x',
        "{{7*7}}",
        "<!--",
    ),
    *("\\input{/etc/passwd}", "$x^2$", "$\\frac{", "%", "_", "&", "~", "{", "}", "^", "--", "`"),
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|'/C calc'!A0", "＝1", "'=1", '"', "a;=1", ",", "\n=1"),
    *(
        "|",
        "[x](javascript:alert(1))",
        "![x](http://127.0.0.1/x)",
        "# h",
        "* a",
        "https://example.com",
        "<b>",
        "`code`",
    ),
    *("\ud800", "犬", "é", "e\u0301", "\U0001f415"),
)
HOSTILE = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), min_size=1, max_size=4).map("".join)
SOME = settings(max_examples=60, deadline=None)


def is_control(character):
    """Whether a terminal or a browser acts on a character instead of showing it; a line end is none."""
    return (
        unicodedata.category(character) in ("Cc", "Cs")
        or unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ) and character not in "\n\t"


def controls(text):
    return [character for character in text if is_control(character)]


def print_text(view):
    out = console()
    with out.capture() as capture:
        print_view(out, view)
    return capture.get()


def without_space(text):
    return "".join(escapes.show_control_codes(text).split())


TERMINAL = {
    "leaderboard": lambda text: leaderboard_table(
        [
            {**RANKED, "accuracy_low": None, "accuracy_high": None, "classifier": text},
            {**NOT_RUN, "accuracy_low": None, "accuracy_high": None, "note": text},
        ],
        text,
    ),
    "contrasts": lambda text: contrasts_table(
        [
            {**CONTRAST, "classifier": text, "verdict": text},
            {**CONTRAST, "classifier": text, "difference": None, "reason": text},
        ],
        text,
    ),
    "verdicts": lambda text: verdicts_table(
        [
            {
                **dict.fromkeys(TABLES["verdicts"].arrow.names),
                "classifier": text,
                "scoring": text,
                "answer": "cannot be decided",
                "statement": text,
                "accuracy": accuracy,
                "reason": text,
            }
            for accuracy in (0.5, None)
        ],
        text,
    ),
    "published": lambda text: published_view(
        [{**PUBLISHED, "classifier": text, "differences": text, "reason": text}], text
    ),
    "predictions": lambda text: prediction_view(
        [{**PREDICTION, "text": text, "label": text, "predicted": text, "file": text}]
    ),
    "query": lambda text: rows_table(pa.table({escapes.show_control_codes(text): [escapes.show_control_codes(text)]})),
    "text": lambda text: PlainText.assemble(("a", "bold"), text),
    "string": lambda text: text,
}


@pytest.mark.parametrize("view", TERMINAL)
@SOME
@given(text=HOSTILE)
@example(text="[/INST] \x1b[31m\u202e :cat:")
def test_the_terminal_shows_text(view, text):
    shown = print_text(TERMINAL[view](text))
    assert not controls(shown)
    if len(text) < 60 and "\n" not in text:
        assert without_space(text) in without_space(shown)


@SOME
@given(text=HOSTILE)
def test_headings_and_titles_of_the_terminal_show_text(text):
    table = PlainTable(title=text)
    table.add_column(text)
    table.add_row(text)
    shown = print_text(table)
    assert not controls(shown)
    if text.strip() and len(text) < 60 and "\n" not in text:
        assert without_space(shown).count(without_space(text)) >= 3


@SOME
@given(text=HOSTILE)
def test_progress_shows_text(text):
    with progress_bars(text) as display:
        display.progress(1, 2, text)
        with display.bars.console.capture() as capture:
            display.bars.console.print(display.bars.get_renderable())
    assert not controls(capture.get())


@SOME
@given(text=HOSTILE)
@example(text="\x7f")
def test_html_shows_text(text):
    shown = escapes.escape_html(text)
    assert not set(shown) & set("<>\"'")
    assert not controls(shown)
    data = as_script({"response": text, text: [text]})
    assert "<" not in data and not controls(data)
    assert json.loads(data)["response"] == escapes.show_control_codes(text)
    images = pa.table({"clip": ["a"], "image": [b"x"], "media_type": ["image/png"]})
    name = escapes.show_control_codes(text) if has_surrogates(text) else text  # no table holds half of a pair
    sheet = sheet_page(name, 1, name, [name, "b"], images)
    assert sheet.count("<script") == sheet_page("s", 1, "r", ["a", "b"], images).count("<script")
    assert not controls(sheet)


@SOME
@given(text=HOSTILE)
def test_latex_shows_text(text):
    """In the escaped text every special sign is part of an escape, and each brace is closed."""
    shown = escapes.escape_tex(text)
    plain = shown
    for command in (
        "textbackslash",
        "textasciitilde",
        "textasciicircum",
        "textless",
        "textgreater",
        "textbar",
        "textasciigrave",
    ):
        plain = plain.replace(f"\\{command}{{}}", "")
    for sign in "&%$#_{}":
        plain = plain.replace(f"\\{sign}", "")
    assert not set(plain.replace("-{}-", "")) & set("\\&%$#_{}~^\n")
    assert not controls(shown)
    rows = (
        leaderboard({**RANKED, "classifier": text}, {**PARTIAL, "note": text})
        if not has_surrogates(text)
        else leaderboard()
    )
    table = leaderboard_tex(rows, "s", text)
    assert table.count("\\begin{tabular}") == table.count("\\end{tabular}") == 1
    assert not controls(table)


def has_surrogates(text):
    return any("\ud800" <= character <= "\udfff" for character in text)


@SOME
@given(text=HOSTILE.filter(lambda text: not has_surrogates(text) and "\0" not in text))
def test_csv_has_no_formulas_and_loses_nothing(text):
    file = io.BytesIO()
    write_csv(
        pa.table(
            {"number": [-1.5], text: [text], "map": pa.array([[(text, 1.0)]], pa.map_(pa.string(), pa.float64()))}
        ),
        file,
    )
    (heading, row) = csv.reader(io.StringIO(file.getvalue().decode(), newline=""))
    assert row[0] == "-1.5", "a number stays a number"
    for cell in (heading[1], row[1], row[2]):
        assert not cell.lstrip(" \xa0").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    assert escapes.unescape_csv(row[1]) == text
    assert len(row) == 3


@SOME
@given(text=st.text())
def test_a_csv_cell_is_read_back(text):
    assert escapes.unescape_csv(escapes.escape_csv(text)) == text


@SOME
@given(text=HOSTILE, number=st.floats())
def test_json_is_strict_ascii(text, number):
    shown = escapes.strict_json({"a": [text, number], "b": {text: number}})
    assert shown.isascii() and not controls(shown)
    loaded = json.loads(shown, parse_constant=lambda name: pytest.fail(name))
    assert loaded["a"][0] == text
    assert (loaded["a"][1] is None) == (number != number or number in (float("inf"), -float("inf")))


@SOME
@given(text=HOSTILE)
def test_dagster_markdown_shows_text(text):
    if has_surrogates(text):
        text = escapes.show_control_codes(text)
    rows = pa.table({"clip": [text, "b"], "label": ["x", "y"], "study": [text, text]})
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(markdown_table(rows, TABLES["clips"]))
    tokens = [token for block in page for token in (block, *(block.children or ()))]
    assert {token.type for token in tokens} <= {
        *("table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close", "tr_open", "tr_close"),
        *(
            "th_open",
            "th_close",
            "td_open",
            "td_close",
            "inline",
            "code_inline",
            "text",
            "text_special",
            "paragraph_open",
            "paragraph_close",
        ),
    }
    assert len([token for token in tokens if token.type == "td_open"]) == 4
    first_cell = next(page[i + 1] for i, token in enumerate(page) if token.type == "td_open")
    shown = "".join(token.content for token in first_cell.children)
    assert not controls(shown)
    if len(text) <= 50:
        assert without_space(shown) == without_space(text)


@settings(max_examples=5, deadline=None)
@given(text=HOSTILE.filter(lambda text: not has_surrogates(text)))
@example(text="$x^2$ \x1b[31m $\\frac{ 犬")
def test_matplotlib_draws_text_without_warnings(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(constrained|collapsed).*")  # of a very long name
        assert measure_charts(leaderboard({**RANKED, "classifier": text}, {**NOT_RUN, "note": text}))
        assert confusion_chart(TABLES["confusion"].empty_table(), (text, text + "b"))


@SOME
@given(text=HOSTILE)
def test_fiftyone_shows_text(text):
    field = _classification(text, text=text)
    assert not controls(field["label"] + field["text"])
    json.loads(escapes.strict_json(field)).keys()


@pytest.mark.slow
def test_a_study_full_of_foreign_text_is_run_and_shown(tmp_path):
    """An endpoint that answers with markup, control codes and formulas, in a study whose description and classes have them, too."""
    bench = Bench(tmp_path / "bench")
    names = dict(
        zip(dict.fromkeys(row["label"] for row in bench.rows), ("=1+[/INST]", "<b>\x1b[31m:cat:"), strict=False)
    )
    for row in bench.rows:
        row["label"] = names.get(row["label"], row["label"])
    (bench.folder / "annotations.csv").unlink()
    replies = itertools.cycle(["[/INST] \x1b[31m\u202e<script>", "=1+[/INST]"])
    failure = (400, {"error": {"message": "bad [/INST] \x1b[31m $x"}})
    script = ServerScript(play=lambda question, n: (200, completion(next(replies), {"model": "m[/x]"}, None)))
    with serving(script) as server:
        model = {
            "kind": "language_model",
            "backend": "openai",
            "model": "m",
            "endpoint": {"url": server.url, "accept": ["m[/x]"]},
        }
        model |= {"input": "audio", "scoring": ["generation"]}
        study = bench.changed_study("classifiers", model=model)
        del study["classifiers"]["panel"]
        study["description"] = "of [/mnt/audio] \x1b]0;title\x07 $x_1$"
        bench.write(study)
        results = [run_command(bench, "run")]
        script.play = lambda question, n: failure
        study["classifiers"]["other"] = {**model, "model": "m2"}
        bench.write(study)
        results += [run_command(bench, command) for command in ("plan", "run", "run", "plan")]
    data = bench.data_folder.root
    clip = bench.rows[0]["id"]
    results += [
        vlm_audio("leaderboard", data=data),
        vlm_audio("show", clip, data=data),
        vlm_audio("sql", "FROM responses", data=data),
        vlm_audio("sql", "FROM responses", "--format", "json", data=data),
        vlm_audio("export", "bench", "--out", tmp_path / "export", data=data),
        run_command(bench, "report", "--single-file", tmp_path / "page.html"),
    ]
    for result in results:
        assert "Traceback" not in result.err and "MarkupError" not in result.err
        assert result.code in (0, 1) and not controls(result.out + result.err)
    assert "[/mnt/audio] ␛]0;title␇ $x_1$" in results[0].out
    assert "[/INST] ␛[31m" in "".join(result.out + result.err for result in results[1:5])
    page = (tmp_path / "page.html").read_text()
    assert not controls(page) and "<b>␛" not in page
    cells = [cell for row in csv.reader(io.StringIO((tmp_path / "export/clips.csv").read_text())) for cell in row]
    assert "'=1+[/INST]" in cells and "=1+[/INST]" not in cells
