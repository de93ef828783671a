import numpy as np

from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline_tests.classifiers.stage_runner import embeddings_table, gaussian_blobs


def test_the_number_of_clips_with_an_embedding_is_known_with_and_without_a_sample():
    _, clips, x = gaussian_blobs()  # 5 folds, 3 classes, 6 clips each
    embeddings = embeddings_table(clips, x)
    complete = EmbeddingMatrix.from_tables(clips, embeddings.slice(10))
    assert (len(complete.clip), complete.all_clips, complete.sample_note) == (80, 80, "")
    sample = EmbeddingMatrix.from_tables(clips, embeddings, max_clips=61)
    assert (len(sample.clip), sample.all_clips, sample.sample_note) == (61, 90, "; sample of 61 of 90 clips")
    names = np.array(["p", "q"])
    assert EmbeddingMatrix(names, names, names, np.ones(2, int), np.eye(2)).all_clips == 2
