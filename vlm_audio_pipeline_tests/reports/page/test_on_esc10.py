import json
import re

import pytest

from vlm_audio_pipeline.cli.display import show_run
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.reports.page.report import write_report
from vlm_audio_pipeline.studies.loading import load_study


@pytest.mark.slow
def test_the_real_recordings_fit_into_one_file_whole(esc10_dir, layout, tmp_path):
    assert show_run(Graph(load_study("baselines"), layout)) == 0
    page = write_report(layout, "baselines", tmp_path / "report.html", single_file=True)
    assert page.stat().st_size < 15_000_000
    text = page.read_text()
    core = json.loads(re.search(r'id="core">(.*?)</script>', text, re.DOTALL)[1])
    assert len([name for name in core["sounds"] if name]) == 400
    assert {len([n for n in names if n]) for names in core["pictures"].values()} == {400}
    assert "fit into one file" not in text and "Room ran out" not in text
    assert "<b>classical_probe</b> is right most often" in text
    assert "4487 of 4687 judgements, on 321 of 400 clips" in text  # ESC-10-HumanClassification.xlsx
    assert "rose_bark.wav" in text  # the attribution of the first recording in the dataset's README
