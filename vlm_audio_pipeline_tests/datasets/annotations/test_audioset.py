from vlm_audio_pipeline.datasets.annotations.events import Event
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats, read_annotations
from vlm_audio_pipeline_tests.datasets.annotations.instances import AUDIOSET


def test_machine_ids_get_their_names_from_the_list_beside_the_file(tmp_path):
    (tmp_path / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/03v3yw,"Keys jangling"\n2,/m/0k4j,"Car"\n'
    )
    (tmp_path / "eval_segments.csv").write_text(AUDIOSET)
    clips = read_annotations(tmp_path / "eval_segments.csv").clips
    assert [clip.labels for clip in clips] == [("Car", "Keys jangling"), ("Speech",)]


def test_strong_labels_have_times_within_the_segment(tmp_path):
    (tmp_path / "mid_to_display_name.tsv").write_text("/m/053hz1\tCheering\n")
    path = tmp_path / "audioset_eval_strong.tsv"
    path.write_text(
        "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\nYxlGt805lTA_30000\t2.627\t7.237\t/m/053hz1\n"
    )
    assert read_annotations(path).events == (Event("YxlGt805lTA_30000", 2.627, 7.237, "Cheering"),)


def test_the_usual_names_of_files_are_aliases():
    assert set(annotation_formats()["audioset"].aliases("abc_30000")) >= {"Yabc_30000", "abc_30", "abc", "Yabc"}
