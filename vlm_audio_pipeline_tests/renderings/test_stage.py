"""Rendering of a fold: if a slow fold is killed, its finished images are kept."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vlm_audio_pipeline.contracts.progress import no_progress
from vlm_audio_pipeline.datasets.base import ClipRow, Recordings
from vlm_audio_pipeline.datasets.perturbation import Perturbation
from vlm_audio_pipeline.engines import LocalEngine, local
from vlm_audio_pipeline.renderings import stage
from vlm_audio_pipeline.renderings.image import RenderedImage
from vlm_audio_pipeline.storage.scratch import Scratch


def clip_rows(count=10, **changed):
    row = {"file": "a.wav", "start_s": None, "end_s": None, "duration_s": 1.0, "sample_rate_hz": 8000}
    return [ClipRow(**{**row, "samples_sha256": "00", "clip": f"c{i}", **changed}) for i in range(count)]


class FakeRenderer:
    """Records the clips that it renders, and is interrupted at one of them."""

    def __init__(self, interrupted_at=None):
        self.rendered, self.interrupted_at = [], interrupted_at

    def __call__(self, clip):
        if clip.clip == self.interrupted_at:
            raise KeyboardInterrupt
        self.rendered.append(clip.clip)
        return RenderedImage(f"\n{clip.clip}\n".encode(), "image/png", 3, 4)


def stage_context(folder):
    dataset = SimpleNamespace(recordings=Recordings(folder))
    scratch = Scratch(folder / "s.sqlite")
    return SimpleNamespace(scratch=scratch, progress=no_progress, engine=LocalEngine(), dataset=dataset)


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SAVE_EVERY_S", -1.0)  # after every image
    monkeypatch.setattr(local, "core_count", lambda: 1)
    return stage_context(tmp_path)


def test_saved_images_are_not_rendered_again(context):
    with pytest.raises(KeyboardInterrupt):
        stage.render_fold(context, clip_rows(), FakeRenderer("c6"), ["recipe"])
    second = FakeRenderer()
    images = stage.render_fold(context, clip_rows(), second, ["recipe"])
    assert second.rendered == ["c6", "c7", "c8", "c9"]
    assert [i.bytes for i in images] == [f"\nc{i}\n".encode() for i in range(10)]
    assert {(i.media_type, i.width, i.height) for i in images} == {("image/png", 3, 4)}
    context.scratch.discard()
    third = FakeRenderer()
    stage.render_fold(context, clip_rows(), third, ["recipe"])
    assert len(third.rendered) == 10


@pytest.mark.parametrize("change", ["recipe", "samples", "segment", "perturbation"])
def test_saved_images_of_other_clips_or_recipes_are_not_used(context, change):
    stage.render_fold(context, clip_rows(), FakeRenderer(), ["recipe"])
    if change == "perturbation":
        context.dataset.recordings = Recordings(Path(), Perturbation("gain_6db", "gain_db", 6.0))
    changed = {"samples": {"samples_sha256": "01"}, "segment": {"start_s": 0.5}}.get(change, {})
    renderer = FakeRenderer()
    stage.render_fold(context, clip_rows(**changed), renderer, ["another"] if change == "recipe" else ["recipe"])
    assert len(renderer.rendered) == 10


def test_a_quick_fold_writes_nothing(tmp_path):
    context = stage_context(tmp_path)
    assert len(stage.render_fold(context, clip_rows(), FakeRenderer(), ["recipe"])) == 10
    assert list(tmp_path.iterdir()) == []
    context.scratch = None
    assert len(stage.render_fold(context, clip_rows(), FakeRenderer(), ["recipe"])) == 10
