import subprocess
import sys
from dataclasses import replace

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.page.study_results import StudyResults, read_batches
from vlm_audio_pipeline_tests.reports.page.example_study import CLASSES


def test_a_partition_file_is_read_in_batches(example_study):
    path = example_study.data_folder.partition_file("spectrograms", example_study.study, "paper", 1)
    pieces = list(read_batches(path, ("clip", "width"), 4))
    assert [len(rows) for rows in pieces] == [4, 4, 2]  # ten clips a fold
    assert pieces[0][0].keys() == {"clip", "width"}
    assert list(read_batches(path.with_name("absent.parquet"), ("clip",), 4)) == []


def test_a_damaged_partition_file_is_named(tmp_path):
    path = tmp_path / "part-0.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(VlmAudioError, match=r"part-0\.parquet is damaged"):
        list(read_batches(path, ("clip",), 4))


def test_memory_holds_a_few_images_however_many_there_are(tmp_path):
    """With row groups, 90 MB more are read but do not stay in memory."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from vlm_audio_pipeline.reports.page.study_results import read_batches
path, count = Path(sys.argv[1]), int(sys.argv[2])
schema = pa.schema([("image", pa.binary())])
with pq.ParquetWriter(path, schema, write_page_checksum=True) as file:
    for i in range(count):
        file.write_table(pa.table({"image": [np.random.default_rng(i).bytes(1_000_000)]}, schema))
assert sum(len(rows[0]["image"]) for rows in read_batches(path, ("image",), 1)) == count * 1_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
"""

    def megabytes(count: int) -> int:
        process = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"{count}.parquet"), str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(process.stdout)

    assert megabytes(100) - megabytes(10) < 45


def test_classes_have_the_order_of_the_dataset_or_of_the_alphabet_without_it(example_study):
    results = StudyResults.load(example_study.data_folder, example_study.study)
    assert results.classes == results.dataset.classes and len(results.classes) == 5
    assert replace(results, dataset=None).classes == tuple(sorted(CLASSES))
    assert results.clip_number[results.clips[3]["clip"]] == 3


def test_the_attribution_is_the_readme_of_the_dataset(example_study):
    results = StudyResults.load(example_study.data_folder, example_study.study)
    assert results.attribution() == ""
    readme = example_study.folder / "README.md"
    readme.write_text("recorded by <someone>")
    assert StudyResults.load(example_study.data_folder, example_study.study).attribution() == "recorded by <someone>"
    readme.unlink()


def test_rows_of_a_table_come_by_its_key(example_study):
    rows = StudyResults.load(example_study.data_folder, example_study.study).rows("contrasts")
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert StudyResults.load(example_study.data_folder, example_study.study).rows("no_such_table") == []
