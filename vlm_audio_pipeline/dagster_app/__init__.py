"""The Dagster application: definitions, assets, sensors, the instance, previews and serving.

Belongs here: everything that imports Dagster. Does not belong here: the choice of the steps to run (`planning`), and science.
"""
