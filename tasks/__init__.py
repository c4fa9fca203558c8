"""One module a stage: the Prefect task around the domain call (cache key, retries, tracking, artifacts, events)."""
