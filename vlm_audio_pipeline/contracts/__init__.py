"""What every room agrees on: errors, fingerprints, specs, registries and stages.

Nothing here knows about audio, models, storage or Dagster; every other room may import it.
"""
