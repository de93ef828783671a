"""Shared contracts: errors, fingerprints, specs, registries, stages and progress.

This folder imports no other folder of the package; every other folder may import it.
"""
