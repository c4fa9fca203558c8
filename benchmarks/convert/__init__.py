"""`make bench-convert`: five models on every target, compared with eager PyTorch; and wrong conversions, caught."""
