import pytest

from vlm_audio_pipeline.reports.page.report import write_report
from vlm_audio_pipeline_tests.reports.page.example_study import write_example_study


@pytest.fixture(scope="session")
def example_study(tmp_path_factory):
    """The example study with every table; read-only."""
    return write_example_study(tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="session")
def folder_report(example_study, tmp_path_factory):
    """`index.html` of its report as a folder."""
    return write_report(example_study.data_folder, example_study.study, tmp_path_factory.mktemp("out") / "report")


@pytest.fixture(scope="session")
def single_file_report(example_study, tmp_path_factory):
    """Its report as a single file."""
    return write_report(
        example_study.data_folder, example_study.study, tmp_path_factory.mktemp("out") / "report.html", single_file=True
    )
