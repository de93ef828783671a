import pytest

from vlm_audio_pipeline.reports.page.report import write_report
from vlm_audio_pipeline_tests.reports.page.made import full_study


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A made-up study with every table a report can show; not to be changed."""
    return full_study(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def folder(made, tmp_path_factory):
    """Its report as a folder: the page to open."""
    return write_report(made.layout, made.study, tmp_path_factory.mktemp("out") / "report")


@pytest.fixture(scope="session")
def single(made, tmp_path_factory):
    """Its report as one file."""
    return write_report(made.layout, made.study, tmp_path_factory.mktemp("out") / "report.html", single_file=True)
