"""Paths with ~ in them."""

import pwd
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import BadPath
from vlm_audio_pipeline.contracts.paths import expand_home


def test_homes(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert expand_home("~/esc10") == Path("/home/ann/esc10")
    someone = pwd.getpwuid(0)
    assert expand_home(f"~{someone.pw_name}/esc10") == Path(someone.pw_dir, "esc10")
    assert expand_home(Path("data")) == Path("data") and expand_home("a~b") == Path("a~b")


def test_a_home_that_nobody_has():
    with pytest.raises(BadPath, match="'~nosuchuser/esc10' starts with the home folder of a user who does not exist"):
        expand_home("~nosuchuser/esc10")
