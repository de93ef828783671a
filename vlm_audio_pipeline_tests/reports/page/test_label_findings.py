"""The findings of a multi-label study: nothing is ranked or compared that is not finished."""

from vlm_audio_pipeline.reports.page.label_findings import label_findings


def row(classifier, cmap, rank=None, control="none", **values):
    return {
        "classifier": classifier,
        "scoring": "score",
        "control": control,
        "kind": "probe",
        "rank": rank,
        "cmap": cmap,
        "cmap_low": None if cmap is None else cmap - 0.1,
        "cmap_high": None if cmap is None else cmap + 0.1,
        "f1_macro": 0.5,
        "positives": 1200,
        "classes": 12,
        "clips": 720,
        "partial": False,
        **values,
    }


CONSTANT = row("constant", 0.1, kind="reference", scoring="")


def contrast(first, second, verdict="better", measure="cmap", control="none", **values):
    return {
        "classifier": first,
        "scoring": "score",
        "control": "none",
        "against": second,
        "against_scoring": "score",
        "against_control": control,
        "subset": "all",
        "measure": measure,
        "verdict": verdict,
        "statement": f"{first} against {second}@{control}: {verdict}.",
        "clips": 0,
        **values,
    }


def test_the_best_classifier_beside_a_constant_score_and_the_next_one():
    board = [row("a", 0.6123, 1), row("b", 0.5, 2), CONSTANT]
    best, *_ = label_findings(board, [])
    assert best.answer == "a has the highest mean average precision (cmAP)."
    assert best.details == (
        "a: 0.612 (95 % interval 0.512 to 0.712), from 1,200 labels of 12 classes in 720 clips.",
        "Equal scores for all clips have 0.100.",
        "No contrast compares a with the next one, b, so it is not tested whether the difference could be chance.",
    )
    tested, _, counts = label_findings(board, [contrast("b", "a", "worse", "lwlrap"), contrast("b", "a", "worse")])
    assert tested.details[2] == "b against a@none: worse."
    assert counts.answer == "Of 2: the second side is better in 2."


def test_equal_first_ranks_are_both_named():
    best, *_ = label_findings([row("a", 0.6, 1), row("b", 0.6, 1), row("c", 0.5, 3)], [])
    assert best.answer == "a and b have the highest mean average precision (cmAP)."
    assert not any("next one" in sentence for sentence in best.details)


def test_what_is_not_finished_is_not_ranked_and_its_controls_are_not_compared():
    board = [row("a", None, partial=True), row("a", 0.3, control="blank"), CONSTANT]
    best, _, controls = label_findings(board, [contrast("a", "b", "not compared")])[:3]
    assert best.answer == "This cannot be said: no classifier has scores for every clip."
    assert best.details == ("Not finished, so without a rank: a. The notes say why.",)
    assert controls.details == ("No control is finished together with its original images, so none is compared.",)


def test_controls_stand_beside_the_original_with_their_test():
    board = [row("a", 0.6, 1), row("a", 0.2, control="blank"), row("a", 0.5, control="time_shuffled")]
    _, _, controls, _ = label_findings(board, [contrast("a", "a", control="blank")])
    assert controls.details == (
        "a with blank images: cmAP 0.200, with the original images 0.600. Tested: a against a@blank: better.",
        "a with time-shuffled images: cmAP 0.500, with the original images 0.600. This difference was not tested.",
    )
    lists = [
        row("m", None, scoring="generation"),
        row("m", None, scoring="generation", control="no_image", f1_macro=0.1),
    ]
    _, _, controls = label_findings(lists, [])
    assert controls.details == (
        "m (generation) with no image: macro F1 0.100, with the original images 0.500. This difference was not tested.",
        "Lists of classes can also have another F1 because they are longer or shorter. A contrast with chance shows whether they fit the clips.",
    )


def test_only_contrasts_with_chance_say_that_a_classifier_is_better_than_chance():
    def answer(*contrasts):
        return label_findings([row("a", 0.6, 1), CONSTANT], contrasts)[1]

    assert answer().answer == "This was not tested: no contrast with chance is declared."
    unmade = answer(contrast("a", "chance", "not compared"))
    assert unmade.answer == "This was not tested: no contrast with chance was made, because they are not finished."
    assert answer(contrast("a", "chance", "cannot tell apart")).answer == "None is shown to be better."
    found = answer(contrast("a", "chance"), contrast("b", "chance", "cannot tell apart"), contrast("a", "b"))
    assert found.answer == "Shown to be better: a."
    assert found.details == ("a against chance@none: better.", "b against chance@none: cannot tell apart.")


def test_two_values_of_one_result_have_their_reason_beside_them():
    board = [row("a", 0.351, 1), row("a", 0.080, control="blank")]
    values = {"clips": 720, "value": 0.351, "against_value": 0.086}
    reason = "0.080 and 0.086 are the same result: a @ blank has equal scores for several clips, and comparisons put equal scores in random order."

    def tested(**changes):
        (sentence,) = label_findings(board, [contrast("a", "a", control="blank", **{**values, **changes})])[2].details
        return sentence.partition("Tested: a against a@blank: better.")[2].strip()

    assert tested() == reason
    assert tested(against_value=0.0801) == ""  # the same after rounding
    assert tested(clips=700) == ""  # other clips are another reason

    knn = [row("a", 0.6, 1), row("knn", 0.5, 2)]
    best = label_findings(knn, [contrast("knn", "a", clips=720, value=0.512, against_value=0.6)])[0]
    assert best.details[1] == (
        "knn against a@none: better. 0.500 and 0.512 are the same result: knn has equal scores for several clips, and comparisons put "
        "equal scores in random order."
    )
