"""Drawing a fold: what was drawn before a break is not drawn again, where drawing takes long."""

from types import SimpleNamespace

import pytest

from vlm_audio_pipeline.contracts.stages import silent
from vlm_audio_pipeline.renderings import drawing
from vlm_audio_pipeline.renderings.picture import Picture
from vlm_audio_pipeline.storage.scratch import Scratch


def rows(count=10, **changed):
    row = {"start_s": None, "end_s": None, "duration_s": 1.0, "rate_hz": 8000, "samples_sha256": "00"}
    return [{**row, "clip": f"c{i}", **changed} for i in range(count)]


class Artist:
    """Draws, remembers what, and drops dead before one of the clips."""

    def __init__(self, dies_at=None):
        self.drawn, self.dies_at = [], dies_at

    def __call__(self, clip):
        if clip["clip"] == self.dies_at:
            raise KeyboardInterrupt
        self.drawn.append(clip["clip"])
        return Picture(f"\n{clip['clip']}\n".encode(), "image/png", 3, 4)


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "KEEP_EVERY_S", -1.0)  # after every picture
    monkeypatch.setattr(drawing, "cores", lambda: 1)
    return SimpleNamespace(scratch=Scratch(tmp_path / "s.sqlite"), progress=silent)


def test_what_was_kept_is_not_drawn_again(context):
    with pytest.raises(KeyboardInterrupt):
        drawing.drawn(context, rows(), Artist("c6"), ["recipe"])
    second = Artist()
    pictures = drawing.drawn(context, rows(), second, ["recipe"])
    assert second.drawn == ["c6", "c7", "c8", "c9"]
    assert [p.bytes for p in pictures] == [f"\nc{i}\n".encode() for i in range(10)]
    assert {(p.media_type, p.width, p.height) for p in pictures} == {("image/png", 3, 4)}
    context.scratch.discard()
    third = Artist()
    drawing.drawn(context, rows(), third, ["recipe"])
    assert len(third.drawn) == 10


@pytest.mark.parametrize("change", ["recipe", "samples", "stretch"])
def test_what_was_kept_of_something_else_is_not_taken(context, change):
    drawing.drawn(context, rows(), Artist(), ["recipe"])
    other = {"samples": {"samples_sha256": "01"}, "stretch": {"start_s": 0.5}}.get(change, {})
    artist = Artist()
    drawing.drawn(context, rows(**other), artist, ["another"] if change == "recipe" else ["recipe"])
    assert len(artist.drawn) == 10


def test_a_quick_fold_writes_nothing(tmp_path):
    context = SimpleNamespace(scratch=Scratch(tmp_path / "s.sqlite"), progress=silent)
    assert len(drawing.drawn(context, rows(), Artist(), ["recipe"])) == 10
    assert list(tmp_path.iterdir()) == []
    context.scratch = None
    assert len(drawing.drawn(context, rows(), Artist(), ["recipe"])) == 10
