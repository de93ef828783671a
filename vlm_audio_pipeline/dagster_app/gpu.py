"""The GPU requirement of a step, for every Dagster executor."""

POOL = "gpu"
"""Concurrency pool; `dagster.yaml` allows one step of it at a time."""

TAGS = {
    "gpu": "1",
    "dagster-dask/resource_requirements": {"GPU": 1},
    "dagster-celery/queue": "gpu",
    "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
    "dagster-ray/config": {"num_gpus": 1},
}
"""Op tags for dask, celery, Kubernetes and ray."""
