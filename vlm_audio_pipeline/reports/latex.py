"""The leaderboard as a LaTeX table, in the style of booktabs (https://ctan.org/pkg/booktabs)."""

import re

import pyarrow as pa

from vlm_audio_pipeline.contracts.escapes import escape_tex
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN, result_name
from vlm_audio_pipeline.measures.declarations import MEASURES, RANKING_MEASURE, measures_for_display


def leaderboard_tex(leaderboard: pa.Table, study: str, description: str = "") -> str:
    r"""Return a leaderboard as a LaTeX table; the document needs `\usepackage{booktabs}`.

    Args:
        leaderboard: rows of `leaderboard`, in the order of the table.
        study: name of the study, for the caption and the label `tab:<study>`.
        description: description of the study, for the caption.
    """
    lines, notes = [], []
    measures = measures_for_display("export")
    for row in leaderboard.to_pylist():
        name = escape_tex(result_name(row["classifier"], row["scoring"], row["control"]))
        if row["note"] and not re.fullmatch(r"\d+ of \d+ (predictions|annotations) correct", row["note"]):
            notes.append(f"{name}: {escape_tex(row['note'])}")
        missing = "--"
        cells = (
            missing if row["rank"] is None else str(row["rank"]),
            name,
            ("" if row["scoring"] == EXAMPLES_KNN else escape_tex(row["scoring"])) or missing,
            MEASURES[RANKING_MEASURE].format(row[RANKING_MEASURE], missing),
            missing
            if row["accuracy_low"] is None
            else f"{rounded_text(row['accuracy_low'], 3)}--{rounded_text(row['accuracy_high'], 3)}",
            missing if row["accuracy"] is None else str(row["predictions"]),
            *(m.format(row[m.name], missing) for m in measures),
            missing if row["training_clips"] is None else str(row["training_clips"]),
        )
        lines.append(" & ".join(cells) + r" \\")
    headings = ["Rank", "Classifier", "Scoring", MEASURES[RANKING_MEASURE].tex_heading, r"95\,\% interval", "$n$"]
    headings += [*(m.tex_heading for m in measures), "Training clips"]
    caption = escape_tex(f"{study}: {description.strip()}" if description else study)
    stop = "" if caption[-1:] in (".", "?", "!") else "."
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{caption}{stop} Accuracy is the correct share of $n$ predictions. Intervals are clustered by "
            "source recording.}",
            f"  \\label{{tab:{study}}}",
            f"  \\begin{{tabular}}{{rllrrr{'r' * len(measures)}r}}",
            r"    \toprule",
            rf"    {' & '.join(headings)} \\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(f"  \\par\\smallskip{{\\footnotesize {note}}}" for note in notes),
            r"\end{table}",
            "",
        ]
    )
