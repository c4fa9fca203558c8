"""Scripts that run in a worker environment: `python -I <script> <folder>`; they import nothing of ours.

Each prints its status as JSON on its last line: {"ok": true, …}, or {"ok": false, "error": "…"}.
"""
