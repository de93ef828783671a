"""`render` and `renderings`."""

from vlm_audio_pipeline_tests.cli.program import assert_refused, vlm_audio


def test_render_writes_images_and_a_contact_sheet(bench, tmp_path):
    study = bench.changed_study(renderings={"small": {"rate": 8000, "n_fft": 256, "hop_length": 64, "size": 32}})
    path, data = bench.write(study), bench.data_folder.root
    result = vlm_audio("render", path, "small", "--clips", 2, "--out", tmp_path / "out", data=data)
    assert (result.code, result.last.split()[0]) == (0, "2")
    assert {p.suffix for p in (tmp_path / "out").rglob("*.*")} == {".png"}
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    wrong = vlm_audio("render", path, "smal", "--out", tmp_path / "out", data=data)
    assert wrong.code == 2 and "did you mean 'small'?" in wrong.err


def test_renderings_lists_presets_with_their_publications(tmp_path):
    result = vlm_audio("renderings", "--out", tmp_path / "presets.png")
    assert result.code == 0
    assert "paper_linear_frequency" in result.out and "arxiv.org/abs/2411.12058" in result.out
    assert (tmp_path / "presets.png").read_bytes().startswith(b"\x89PNG")


def test_the_sheet_of_presets_is_not_written_to_a_folder(tmp_path):
    result = vlm_audio("renderings", "--out", tmp_path)
    assert_refused(
        result, f"--out must be a file, got the folder {tmp_path}; use for example {tmp_path / 'presets.png'}"
    )
    assert result.out == "" and list(tmp_path.iterdir()) == []
