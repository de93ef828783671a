import shutil
import subprocess

import pytest

from vlm_audio_pipeline.reports.latex import escape_tex, leaderboard_tex
from vlm_audio_pipeline_tests.reports.leaderboard_rows import NOT_RUN, PARTIAL, RANKED, leaderboard


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b", r"a\_b"),
        ("50% & $5 #1", r"50\% \& \$5 \#1"),
        ("{x}^2~\\", r"\{x\}\textasciicircum{}2\textasciitilde{}\textbackslash{}"),
        ("a<b>c|d", r"a\textless{}b\textgreater{}c\textbar{}d"),
        ("two\nlines", "two lines"),
    ],
)
def test_escaping(text, escaped):
    assert escape_tex(text) == escaped


def test_a_latex_table():
    tex = leaderboard_tex(leaderboard(RANKED, PARTIAL, NOT_RUN), "my_study", "50% of what? ")
    lines = [line.strip() for line in tex.splitlines()]
    assert r"1 & best\_probe & score & 0.750 & -- & 40 & 0.732 & 20 \\" in lines
    assert r"-- & part @ blank & score & 0.100 & -- & 20 & -- & -- \\" in lines
    assert r"-- & absent & -- & -- & -- & -- & -- & -- \\" in lines
    assert r"\par\smallskip{\footnotesize absent: not run: weights of [x] missing, 100\% \& \$HOME\_DIR}" in lines
    sentences = "Accuracy is the correct share of $n$ predictions. Intervals are clustered by source recording."
    assert rf"\caption{{my\_study: 50\% of what? {sentences}}}" in lines
    assert [r"\toprule" in lines, r"\midrule" in lines, r"\bottomrule" in lines] == [True] * 3
    assert r"\caption{bare. Accuracy is" in leaderboard_tex(leaderboard(), "bare")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_compiles_the_table(tmp_path):
    table = leaderboard_tex(leaderboard(RANKED, PARTIAL, NOT_RUN), "my_study", r"50% of {what} \ and ~ ^ < > | #?")
    before = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    document = before + table + "\\end{document}\n"
    (tmp_path / "t.tex").write_text(document)
    process = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-2000:]
