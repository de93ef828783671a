from vlm_audio_pipeline.datasets.class_names import class_name


def test_a_label_without_a_class_name_is_split_into_words():
    c = class_name("lung_crackle-fine")
    words = "lung crackle fine"
    assert (c.name, c.readable_name, c.synonyms, c.description) == ("lung_crackle-fine", words, (), words)
