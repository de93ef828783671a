"""What differs between the tasks of a study: one label for each clip, or any number of labels.

Belongs here: classifiers, measures and summaries of a task. Does not belong here: what all tasks share (clips, images, embeddings),
schemas of tables (`storage`), and pages (`reports`).
"""
