"""Paths with ~ in them."""

import os
import pwd
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import BadPath
from vlm_audio_pipeline.contracts.paths import expand_home, require_text_path, show_path


def test_a_tilde_is_replaced_by_a_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert expand_home("~/esc10") == Path("/home/ann/esc10")
    user = pwd.getpwuid(0)
    assert expand_home(f"~{user.pw_name}/esc10") == Path(user.pw_dir, "esc10")
    assert expand_home(Path("data")) == Path("data") and expand_home("a~b") == Path("a~b")


def test_the_home_folder_of_an_unknown_user_is_an_error():
    with pytest.raises(BadPath, match="'~nosuchuser/esc10' starts with the home folder of a user who does not exist"):
        expand_home("~nosuchuser/esc10")


def test_paths_that_are_not_utf_8_are_shown_escaped_and_refused():
    path = Path(os.fsdecode(b"/data/k\xfcche"))
    assert show_path(path) == "/data/k\\xfcche" and show_path("/data/k\xfcche") == "/data/k\xfcche"
    require_text_path("/data/k\xfcche")
    with pytest.raises(BadPath, match=r"the path '/data/k\\xfcche' contains bytes that are not UTF-8; rename"):
        require_text_path(path)


def test_a_nul_byte_is_refused():
    with pytest.raises(BadPath, match=r"'a\\x00b' contains a NUL byte"):
        expand_home("a\0b")
