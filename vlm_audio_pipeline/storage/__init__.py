"""Where results lie: table schemas, parquet parts with provenance, the row store and the DuckDB catalogue.

What belongs here: how a table is written whole, found again and described. What does not: what is in it.
"""
