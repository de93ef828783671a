import sys

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec

BASE = """
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
THINGS = Registry("thing", "{room}")
"""
FAMILY = """
from {room}.base import THINGS, Spec
@THINGS.register("{kind}")
class {cls}(Spec):
    pass
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A room of its own, importable: its name and a function that adds a file to any package on the path."""
    name = "room_of_a_test"
    monkeypatch.syspath_prepend(tmp_path)

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text.format(room=name))

    write(f"{name}/__init__.py", "")
    write(f"{name}/base.py", BASE)
    yield write
    for module in [m for m in sys.modules if m.split(".")[0] in (name, "outside")]:
        del sys.modules[module]


def things() -> Registry:
    from room_of_a_test.base import THINGS

    return THINGS


def family(kind: str, cls: str = "Family") -> str:
    return FAMILY.replace("{kind}", kind).replace("{cls}", cls)


def declare_outside(write, entry: str) -> None:
    """Install a distribution as pip would leave it: its metadata beside its code."""
    write("outside_pkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: outside-pkg\nVersion: 1.0\n")
    write("outside_pkg-1.0.dist-info/entry_points.txt", f"[{{room}}]\n{entry}\n")


def test_every_file_of_the_room_is_found(room):
    room("room_of_a_test/one.py", family("one"))
    room("room_of_a_test/deeper/__init__.py", "")
    room("room_of_a_test/deeper/two.py", family("two"))
    assert list(things().all()) == ["one", "two"]
    assert things().get("two").__module__ == "room_of_a_test.deeper.two"
    assert things().get("one")().kind == "one"


def test_an_entry_point_of_another_package_is_loaded(room):
    room("outside.py", family("foreign"))
    declare_outside(room, "foreign = outside:Family")
    assert things().get("foreign").__module__ == "outside"


def test_an_entry_point_may_not_take_a_kind(room):
    room("room_of_a_test/one.py", family("one"))
    room("outside.py", family("one", "Other"))
    declare_outside(room, "one = outside:Other")
    with pytest.raises(VlmAudioError, match=r"room_of_a_test\.one\.Family and outside\.Other"):
        things().all()


@pytest.mark.parametrize("code", ["import nothing_of_this_name", "1 / 0"])
def test_a_broken_package_outside_is_named(room, code):
    room("outside.py", code)
    declare_outside(room, "foreign = outside:Family")
    for _ in range(2):  # half a registry must not pass for a whole one at the second time
        with pytest.raises(VlmAudioError, match=r"cannot import thing 'foreign' \(outside:Family\) of outside-pkg: "):
            things().all()


def test_a_broken_file_of_ours_keeps_its_traceback_every_time(room):
    room("room_of_a_test/one.py", "import nothing_of_this_name")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
            things().all()


def test_a_file_may_ask_the_registry_while_it_is_imported(room):
    room("room_of_a_test/one.py", "from {room}.base import THINGS\nBEFORE = THINGS.all()\n" + family("one"))
    assert list(things().all()) == ["one"]


def test_duplicates_name_both_origins():
    registry = Registry("thing", "room")

    @registry.register("same")
    class First(Spec):
        pass

    class Second(Spec):
        pass

    with pytest.raises(VlmAudioError) as caught:
        registry.register("same")(Second)
    assert First.__qualname__ in str(caught.value)
    assert Second.__qualname__ in str(caught.value)
    assert str(caught.value).count(__name__) == 2


def test_a_module_may_be_loaded_again(room):
    import importlib

    room("room_of_a_test/one.py", family("one"))
    first = things().get("one")
    importlib.reload(sys.modules["room_of_a_test.one"])
    assert things().get("one") is not first


def test_an_unknown_kind_gets_a_suggestion_and_the_options(room):
    room("room_of_a_test/one.py", family("probe"))
    room("room_of_a_test/two.py", family("knn"))
    with pytest.raises(VlmAudioError, match=r"^unknown thing kind 'prob'; did you mean 'probe'\? options: knn, probe$"):
        things().get("prob")
