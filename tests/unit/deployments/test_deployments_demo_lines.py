"""Lines of `make run`."""

from __future__ import annotations

from deployments.demo.loop import informative


def test_what_is_shown_while_waiting_is_about_the_work_and_not_about_prefect() -> None:
    newest_first = [
        "Finished in state Completed()",
        "View at http://127.0.0.1:4200/runs/flow-run/1",
        " > Running set_working_directory deployment step...",
        "training the original: 12 of 40 epochs\nmore",
        "data: 900 rows",
    ]

    assert informative(newest_first) == "training the original: 12 of 40 epochs"
    assert informative(newest_first[:3]) is None
