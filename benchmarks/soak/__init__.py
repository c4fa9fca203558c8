"""How sturdy the scoring service is: `python -m benchmarks.soak` (or `make soak`)."""
