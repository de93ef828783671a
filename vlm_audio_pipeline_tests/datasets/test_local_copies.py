import os

import pytest

from vlm_audio_pipeline.datasets.local_copies import check_local_copies
from vlm_audio_pipeline.engines.doctor import MachineCheck


def esc10_finding() -> MachineCheck:
    [finding] = [f for f in check_local_copies() if "ESC" in f.text]
    return finding


@pytest.mark.parametrize(
    ("value", "state", "words"),
    [
        (None, "ok", "will be downloaded when needed"),
        ("", "ok", "will be downloaded when needed"),
        ("/no/such/folder", "bad", "ESC10_DIR is not a folder: /no/such/folder; correct it or unset it"),
        (__file__, "bad", "is not a folder"),
        (os.path.dirname(__file__), "ok", f"ESC-10 from {os.path.dirname(__file__)}"),
    ],
)
def test_a_local_copy_or_a_download_is_reported(monkeypatch, value, state, words):
    monkeypatch.delenv("ESC10_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("ESC10_DIR", value)
    finding = esc10_finding()
    assert finding.state == state
    assert words in finding.text


def test_the_folder_of_a_local_copy_may_start_with_a_tilde(monkeypatch, tmp_path):
    (tmp_path / "esc10").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ESC10_DIR", "~/esc10")
    assert esc10_finding() == MachineCheck("ok", f"ESC-10 from {tmp_path / 'esc10'}")
