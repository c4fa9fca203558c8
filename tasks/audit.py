"""The audit page: written anew after every window and reaction, and linked from the Prefect UI."""

from __future__ import annotations

from prefect.artifacts import create_link_artifact

from tasks.artifacts import artifact_key, page_url
from trimtab.audit.write import PAGE, write_audit
from trimtab.watch import Watch


def renew_audit(watch: Watch) -> None:
    """Write <home>/reports/<name>/audit.html and link it; without a service of ours it is a file only."""
    write_audit(watch.settings, watch.name)
    if url := audit_url(watch):
        create_link_artifact(
            key=artifact_key("audit", watch.name),
            link=url,
            link_text="Audit",
            description=f"Windows, verdicts, reactions and releases of {watch.name}, and what each changed",
        )


def audit_url(watch: Watch) -> str | None:
    """Where the page is served; None where no service of ours serves it."""
    return page_url(watch.settings, watch.recipe, f"{watch.name}/{PAGE}")
