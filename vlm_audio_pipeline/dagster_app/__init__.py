"""The Dagster application: definitions, assets, sensors, the instance, previews and serving.

Belongs here: everything that imports Dagster. Does not belong here: decisions about what runs (`planning`) and science.
"""
