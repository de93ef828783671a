"""Storage: table schemas, partition files with provenance, result store, ledger, catalogue, atomic writes and locks."""
