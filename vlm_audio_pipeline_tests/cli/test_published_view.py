from rich.console import Console

from vlm_audio_pipeline.cli.published_view import published_view

ROW = {
    "classifier": "janus",
    "scoring": "generation",
    "publication": "can-vlms-hear",
    "system": "Janus",
    "setting": "zero-shot",
    "variant": "",
    "split": "all clips",
    "published": 0.105,
    "measured": 0.11,
    "measured_low": 0.08,
    "measured_high": 0.15,
    "reproduced": "accuracy only",
    "reason": None,
    "differences": "prompt: published a, here b\nshots: published 0, here 1",
    "not_stated": "trials: here 1",
}
NOT_REPEATED = {**ROW, "classifier": "", "measured": None, "reproduced": None}


def print_text(rows):
    console = Console(width=160)
    with console.capture() as capture:
        console.print(published_view(rows, "published and measured"))
    return capture.get()


def test_each_difference_has_a_line():
    text = print_text([ROW, NOT_REPEATED])
    lines = [line.strip() for line in text.splitlines()]
    assert "janus (generation)" in text and "0.105" in text and "0.080 - 0.150" in text and "accuracy only" in text
    assert "1: prompt: published a, here b" in lines and "1: shots: published 0, here 1" in lines
    assert "1: not stated in the publication: trials: here 1" in lines
    assert text.count("can-vlms-hear/Janus") == 1, "rows that no classifier repeats are left out"


def test_a_note_about_several_results_is_printed_once():
    text = print_text([ROW, {**ROW, "classifier": "other", "differences": "shots: published 0, here 1"}])
    assert "1, 2: shots: published 0, here 1" in text and "1: prompt: published a, here b" in text


def test_a_result_that_was_not_measured_has_no_number_but_a_reason():
    text = print_text([{**ROW, "measured": None, "measured_low": None, "measured_high": None, "reason": "not run"}])
    assert "1: not run" in text and "0.080" not in text


def test_a_study_that_repeats_nothing_has_no_table():
    assert published_view([], "t") is None
    assert published_view([NOT_REPEATED], "t") is None
