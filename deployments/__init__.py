"""Where and when it runs: the local servers, the deployments with their schedules, and the automations.

The top layer: it may import flows, tasks and trimtab; nothing imports it. Import-light: no Prefect, no MLflow here.
"""
