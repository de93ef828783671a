import sys
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from vlm_audio_pipeline.reports.fiftyone_panel import PANEL, install_panel, register


class View:
    """The objects that a panel defines, as FiftyOne's `types.Object`: (name, text or address)."""

    def __init__(self):
        self.items = []

    def md(self, markdown, name):
        self.items.append((name, markdown))

    def media_player(self, name, url, **options):
        assert options["controls"]
        self.items.append((name, url))


@pytest.fixture
def panel(monkeypatch):
    """The registered panel, with FiftyOne's classes replaced by records; the network lane uses the App."""
    operators, types = ModuleType("fiftyone.operators"), ModuleType("fiftyone.operators.types")
    operators.Panel, operators.PanelConfig, operators.types = object, SimpleNamespace, types
    types.Object, types.Property = View, lambda view: view.items
    fiftyone = ModuleType("fiftyone")
    fiftyone.operators = operators
    for name, module in (("fiftyone", fiftyone), (operators.__name__, operators), (types.__name__, types)):
        monkeypatch.setitem(sys.modules, name, module)
    classes = []
    register(SimpleNamespace(register=classes.append))
    return classes[0]()


class Sample(dict):
    def __init__(self, number, audio):
        super().__init__(clip=f"1-{number}_a", audio=audio, ground_truth=SimpleNamespace(label="dog"))
        self.id = str(number)


def context(selected=(), current_sample=None, count=20):
    samples = {str(i): Sample(i, None if i == 1 else f"/r/{i} a.wav") for i in range(count)}
    select = SimpleNamespace(select=lambda ids, ordered: [samples[i] for i in ids])
    return SimpleNamespace(selected=list(selected), current_sample=current_sample, dataset=select)


def test_each_selected_sample_has_a_player(panel):
    assert panel.render(context(["2", "1"])) == [
        ("title_2", r"**1-2\_a** dog"),
        ("player_2", "/media?filepath=%2Fr%2F2%20a.wav"),
        ("title_1", r"**1-1\_a** dog"),
        ("missing_1", "The recording is not on this machine."),
    ]
    assert [name for name, _ in panel.render(context(["2", "3"], current_sample="5"))] == ["title_5", "player_5"]


def test_the_panel_says_what_to_do_and_what_it_leaves_out(panel):
    assert panel.render(context()) == [("hint", "Select samples in the grid to hear them.")]
    items = panel.render(context(str(i) for i in range(2, 16)))
    assert items[-1] == ("more", "The first 12 of 14 samples.") and len(items) == 25


def test_the_panel_is_installed_as_a_plugin(tmp_path):
    folder = install_panel(tmp_path)
    assert folder == tmp_path / "vlm-audio-pipeline"
    assert yaml.safe_load((folder / "fiftyone.yml").read_text())["panels"] == [PANEL]
    namespace = {}
    exec((folder / "__init__.py").read_text(), namespace)
    assert namespace["register"] is register
