import re
from pathlib import Path

import vlm_audio_pipeline
from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR, controlled_name
from vlm_audio_pipeline.studies.study import NAME


def test_a_controlled_name_cannot_be_the_name_of_an_entry_of_a_study():
    assert controlled_name("paper", "time_shuffled") == "paper__time_shuffled"
    assert re.fullmatch(NAME, "paper") and not re.fullmatch(NAME, controlled_name("paper", "blank"))


def test_only_one_module_builds_or_splits_controlled_names():
    package = Path(vlm_audio_pipeline.__file__).parent
    own = package / "contracts" / "control_names.py"
    built = re.compile(rf"[}}\w]{CONTROL_SEPARATOR}{{\w|split\(.{CONTROL_SEPARATOR}|partition\(.{CONTROL_SEPARATOR}")
    files = [path for path in package.rglob("*.py") if path != own]
    assert [str(path) for path in files if built.search(path.read_text())] == []
