"""What runs, and in which order; each flow reads like the picture in docs/architecture.md."""
