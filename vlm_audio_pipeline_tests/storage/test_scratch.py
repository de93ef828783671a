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
