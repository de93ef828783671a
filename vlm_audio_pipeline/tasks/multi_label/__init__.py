"""The task `multi_label`: a clip has any number of classes, also none, and each class is predicted independently."""
