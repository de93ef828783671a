from vlm_audio_pipeline.storage.scratch import Scratch


def test_kept_for_who_comes_next_until_discarded(tmp_path):
    path = tmp_path / "scratch" / "study.step|1.sqlite"
    first = Scratch(path)
    assert first.get(["a"]) == {} and not path.parent.exists()
    first.put([("a", b"1"), ("b", b"2")])
    second = Scratch(path)
    assert second.get(["a", "b", "c"]) == {"a": b"1", "b": b"2"}
    second.discard()
    assert list(path.parent.iterdir()) == []
    second.discard()  # nothing is there, and nothing is wrong
    assert Scratch(path).get(["a"]) == {}
