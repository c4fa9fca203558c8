"""Compression, one method a file: `prune`, `distil`, `quantize`; `search` says which candidates are made and chosen.

`weights` and `replay` keep a candidate's files: safetensors and the pruning history. Nothing heavy is imported here.
"""
