import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.result_store import PAGE_SIZE_BYTES
from vlm_audio_pipeline.storage.scratch import Scratch


def test_results_are_stored_until_they_are_discarded(tmp_path):
    path = tmp_path / "scratch" / "study.step|1.sqlite"
    first = Scratch(path)
    assert first.get(["a"]) == {} and not path.parent.exists()
    first.put([("a", b"1"), ("b", b"2")])
    second = Scratch(path)
    assert second.get(["a", "b", "c"]) == {"a": b"1", "b": b"2"}
    second.discard()
    assert list(path.parent.iterdir()) == []
    second.discard()  # discarding twice is no error
    assert Scratch(path).get(["a"]) == {}


@pytest.mark.parametrize("damage", ["no database", "a damaged page", "a folder"])
def test_a_damaged_file_is_replaced_with_a_warning(tmp_path, caplog, damage):
    """A killed machine may leave it. The error of the result store would say that paid responses are lost."""
    path = tmp_path / "study.step|1.sqlite"
    first = Scratch(path)
    first.put([(f"{n}", b"x" * 3000) for n in range(50)])
    first.close()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        content = bytearray(path.read_bytes())
        first_byte = 0 if damage == "no database" else PAGE_SIZE_BYTES
        content[first_byte : 3 * PAGE_SIZE_BYTES] = b"\xff" * (3 * PAGE_SIZE_BYTES - first_byte)
        path.write_bytes(content)
    second = Scratch(path)
    assert second.get(["1"]) == {}
    second.put([("1", b"new")])
    assert Scratch(path).get(["1", "2"]) == {"1": b"new"}
    assert [record for record in caplog.records if "computes its intermediate results again" in record.getMessage()]


def test_a_full_disk_is_no_damage(tmp_path):
    path = tmp_path / "study.step|1.sqlite"
    scratch = Scratch(path)
    scratch.put([("a", b"1")])
    pages = scratch._store._db.execute("PRAGMA page_count").fetchone()[0]
    scratch._store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(VlmAudioError, match="full"):
        scratch.put([("b", b"x" * 100_000)])
    assert Scratch(path).get(["a"]) == {"a": b"1"}
