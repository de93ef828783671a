"""The columns that say which of several requests about one clip a row belongs to."""

FIRST_TRIAL = {"control": "none", "trial": 0, "draw": 0, "class_order": 0, "wording": 0, "repeat": 0}
"""These columns of a request without a control that is sent once."""
