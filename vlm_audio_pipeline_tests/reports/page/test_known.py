import subprocess
import sys
from dataclasses import replace

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.page.known import batches, known
from vlm_audio_pipeline_tests.reports.page.made import CLASSES


def test_a_part_is_read_a_few_rows_at_a_time(made):
    part = made.layout.part("spectrograms", made.study, "paper", 1)
    pieces = list(batches(part, ("clip", "width"), 4))
    assert [len(rows) for rows in pieces] == [4, 4, 2]  # ten clips a fold
    assert pieces[0][0].keys() == {"clip", "width"}
    assert list(batches(part.with_name("absent.parquet"), ("clip",), 4)) == []


def test_a_file_that_is_no_part_is_named(tmp_path):
    path = tmp_path / "part-0.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(VlmAudioError, match=r"part-0\.parquet must be a whole part"):
        list(batches(path, ("clip",), 4))


def test_memory_holds_a_few_pictures_however_many_there_are(tmp_path):
    """Where a part is written in groups of rows: what is read grows by 90 MB, what is held does not."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from vlm_audio_pipeline.reports.page.known import batches
path, count = Path(sys.argv[1]), int(sys.argv[2])
schema = pa.schema([("picture", pa.binary())])
with pq.ParquetWriter(path, schema, write_page_checksum=True) as file:
    for i in range(count):
        file.write_table(pa.table({"picture": [np.random.default_rng(i).bytes(1_000_000)]}, schema))
assert sum(len(rows[0]["picture"]) for rows in batches(path, ("picture",), 1)) == count * 1_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
"""

    def megabytes(count: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"{count}.parquet"), str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert megabytes(100) - megabytes(10) < 45


def test_classes_are_the_datasets_own_in_its_order_and_those_said_where_it_is_not_here(made):
    about = known(made.layout, made.study)
    assert about.classes == about.dataset.classes and len(about.classes) == 5
    assert replace(about, dataset=None).classes == tuple(sorted(CLASSES))
    assert about.number[about.clips[3]["clip"]] == 3


def test_the_attribution_is_what_the_dataset_itself_says(made):
    about = known(made.layout, made.study)
    assert about.attribution() == ""
    readme = made.folder / "README.md"
    readme.write_text("recorded by <someone>")
    assert known(made.layout, made.study).attribution() == "recorded by <someone>"
    readme.unlink()


def test_rows_of_a_table_come_by_its_key(made):
    rows = known(made.layout, made.study).rows("contrasts")
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert known(made.layout, made.study).rows("no_such_table") == []
