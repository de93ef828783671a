"""Paths with ~ in them."""

import pwd
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import BadPath
from vlm_audio_pipeline.contracts.paths import expanded


def test_homes(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert expanded("~/esc10") == Path("/home/ann/esc10")
    someone = pwd.getpwuid(0)
    assert expanded(f"~{someone.pw_name}/esc10") == Path(someone.pw_dir, "esc10")
    assert expanded(Path("data")) == Path("data") and expanded("a~b") == Path("a~b")


def test_a_home_that_nobody_has():
    with pytest.raises(BadPath, match="must begin with the home of somebody on this machine, got '~nosuchuser/esc10'"):
        expanded("~nosuchuser/esc10")
