import sys

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec

BASE = """
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
THINGS = Registry("thing", "{package}")
"""
FAMILY = """
from {package}.base import THINGS, Spec
@THINGS.register("{kind}")
class {cls}(Spec):
    pass
"""


@pytest.fixture
def add_file(tmp_path, monkeypatch):
    """Create an importable package and return a function that adds a file to any package on the path."""
    name = "package_of_a_test"
    monkeypatch.syspath_prepend(tmp_path)

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text.format(package=name))

    write(f"{name}/__init__.py", "")
    write(f"{name}/base.py", BASE)
    yield write
    for module in [m for m in sys.modules if m.split(".")[0] in (name, "outside")]:
        del sys.modules[module]


def thing_registry() -> Registry:
    from package_of_a_test.base import THINGS

    return THINGS


def family(kind: str, cls: str = "Family") -> str:
    return FAMILY.replace("{kind}", kind).replace("{cls}", cls)


def declare_outside(write, entry: str) -> None:
    """Install a distribution as pip does: metadata next to the code."""
    write("outside_pkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: outside-pkg\nVersion: 1.0\n")
    write("outside_pkg-1.0.dist-info/entry_points.txt", f"[{{package}}]\n{entry}\n")


def test_every_file_of_the_package_is_registered(add_file):
    add_file("package_of_a_test/one.py", family("one"))
    add_file("package_of_a_test/deeper/__init__.py", "")
    add_file("package_of_a_test/deeper/two.py", family("two"))
    assert list(thing_registry().all()) == ["one", "two"]
    assert thing_registry().get("two").__module__ == "package_of_a_test.deeper.two"
    assert thing_registry().get("one")().kind == "one"


def test_an_entry_point_of_another_package_is_loaded(add_file):
    add_file("outside.py", family("foreign"))
    declare_outside(add_file, "foreign = outside:Family")
    assert thing_registry().get("foreign").__module__ == "outside"


def test_an_entry_point_may_not_use_a_registered_kind(add_file):
    add_file("package_of_a_test/one.py", family("one"))
    add_file("outside.py", family("one", "Other"))
    declare_outside(add_file, "one = outside:Other")
    with pytest.raises(VlmAudioError, match=r"package_of_a_test\.one\.Family and outside\.Other"):
        thing_registry().all()


@pytest.mark.parametrize("code", ["import nothing_of_this_name", "1 / 0"])
def test_a_broken_entry_point_is_named(add_file, code):
    add_file("outside.py", code)
    declare_outside(add_file, "foreign = outside:Family")
    for _ in range(2):  # the second call must not return an incomplete registry
        with pytest.raises(VlmAudioError, match=r"cannot import thing 'foreign' \(outside:Family\) of outside-pkg: "):
            thing_registry().all()


def test_a_broken_file_of_the_package_raises_its_own_error_every_time(add_file):
    add_file("package_of_a_test/one.py", "import nothing_of_this_name")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
            thing_registry().all()


def test_a_file_may_use_the_registry_while_it_is_imported(add_file):
    add_file("package_of_a_test/one.py", "from {package}.base import THINGS\nBEFORE = THINGS.all()\n" + family("one"))
    assert list(thing_registry().all()) == ["one"]


def test_a_duplicate_kind_names_both_classes():
    registry = Registry("thing", "package")

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


def test_a_module_may_be_reloaded(add_file):
    import importlib

    add_file("package_of_a_test/one.py", family("one"))
    first = thing_registry().get("one")
    importlib.reload(sys.modules["package_of_a_test.one"])
    assert thing_registry().get("one") is not first


def test_an_unknown_kind_gets_a_suggestion_and_the_options(add_file):
    add_file("package_of_a_test/one.py", family("probe"))
    add_file("package_of_a_test/two.py", family("knn"))
    with pytest.raises(VlmAudioError, match=r"^unknown thing kind 'prob'; did you mean 'probe'\? options: knn, probe$"):
        thing_registry().get("prob")
