from vlm_audio_pipeline.datasets.class_names import class_name


def test_a_label_that_no_dataset_has_is_called_by_its_own_words():
    c = class_name("lung_crackle-fine")
    words = "lung crackle fine"
    assert (c.name, c.readable, c.synonyms, c.description) == ("lung_crackle-fine", words, (), words)
