"""Present results: the report page, figures, exports, FiftyOne and the annotation sheet."""
