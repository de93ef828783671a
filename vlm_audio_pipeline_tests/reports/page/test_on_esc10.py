import json
import re

import pytest

from vlm_audio_pipeline.cli.run_view import run_and_show
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.reports.page.report import write_report
from vlm_audio_pipeline.studies.loading import load_study


@pytest.mark.slow
def test_a_single_file_of_real_recordings(esc10_dir, data_folder, tmp_path):
    assert run_and_show(Graph(load_study("baselines"), data_folder)) == 0
    page = write_report(data_folder, "baselines", tmp_path / "report.html", single_file=True)
    assert page.stat().st_size < 15_000_000
    text = page.read_text()
    core = json.loads(re.search(r'id="core">(.*?)</script>', text, re.DOTALL)[1])
    assert len([name for name in core["audio"] if name]) == 200
    assert {len([n for n in names if n]) for names in core["images"].values()} == {200}
    assert "This single file contains images and audio of 200 of 400 clips" in text
    assert "<b>classical_probe</b> has the highest accuracy" in text
    assert "4487 of 4687 annotations correct, on 321 of 400 clips" in text  # ESC-10-HumanClassification.xlsx
    assert "rose_bark.wav" in text  # the attribution of the first recording in the dataset's README
