"""`make bench-compress`: what the search finds on a real task, against the tools that are published for it."""
