"""Numbers -> what a person reads: terminal tables, exports, figures."""
