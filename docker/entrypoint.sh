#!/usr/bin/env bash
# entrypoint.sh ROLE: become one process of the stack. The commands are those of deployments/stack/services.py; the
# addresses of the others come from the environment (docker/compose.yaml), and so does the order of starting.
#   prefect         the Prefect server
#   mlflow          the MLflow server: tracking, registry, artifacts
#   worker          the Prefect worker; flow runs are its children
#   registry-watch  what sees hands in MLflow and has them settled
#   scoring NAME    the scoring service of a release name
#   evidently       the Evidently UI
#   deploy RECIPE   create or update the recipe's deployments and automations, then end
#   healthy URL     exit code 0 if URL answers 200
#   healthy worker  exit code 0 if Prefect has a worker of our pool online
#   healthy beat    exit code 0 if registry-watch has had a round that went well within a minute
set -euo pipefail

# Every role runs in the environment of a local stack (deployments/environment.py), telemetry off.
in_our_environment='
import os, sys
from deployments.environment import apply
from trimtab.settings import Settings
apply(Settings.load().ensure_home())
os.execvp(sys.argv[1], sys.argv[1:])
'

# What `trimtab up RECIPE` does after the servers are up.
deploy_recipe='
import sys
from pathlib import Path
from deployments.automations import automate
from deployments.deploy import deploy
from trimtab.errors import TrimtabError
from trimtab.recipe.load import load_recipe
from trimtab.settings import Settings
settings, recipe = Settings.load(), Path(sys.argv[1])
try:
    for done in [*deploy(settings, recipe), *automate(settings, recipe, load_recipe(recipe).name)]:
        print("deployed", done)
except TrimtabError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
'

# The standard library only: it runs every few seconds in every container. No proxy lies between our servers.
health='
import json, os, sys, time, urllib.request
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
if sys.argv[1] == "beat":
    last = os.stat(os.environ["TRIMTAB_HOME"] + "/supervisor/registry-watch.beat").st_mtime
    sys.exit(time.time() - last > 60)
elif sys.argv[1] != "worker":
    http.open(sys.argv[1], timeout=5)
else:
    pool = os.environ["TRIMTAB_PREFECT_API_URL"] + "/work_pools/trimtab/workers/filter"
    wanted = urllib.request.Request(pool, b"{}", {"Content-Type": "application/json"})
    workers = json.load(http.open(wanted, timeout=5))
    sys.exit(not any(worker["status"] == "ONLINE" for worker in workers))
'

usage() {
  echo 'usage: entrypoint.sh prefect|mlflow|worker|registry-watch|scoring NAME|evidently|deploy RECIPE|healthy URL|worker|beat' >&2
  exit 64
}

need() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || { echo "entrypoint.sh: $name is not set; docker/compose.yaml shows its form" >&2; exit 64; }
  done
}

become() { exec python -P -c "$in_our_environment" "$@"; }

role=${1:-}
case $role in
  scoring | deploy | healthy) [ $# -eq 2 ] || usage ;;
  *) [ $# -eq 1 ] || usage ;;
esac

case $role in
  prefect)
    need TRIMTAB_HOME TRIMTAB_PREFECT_API_URL PREFECT_SERVER_DATABASE_CONNECTION_URL
    become python -P -m deployments.stack.launch prefect server start --host 0.0.0.0 --port 4200
    ;;
  mlflow)
    # The backend's address holds a password: mlflow reads it from the environment, not from the command line.
    need TRIMTAB_HOME MLFLOW_BACKEND_STORE_URI MLFLOW_SERVER_ALLOWED_HOSTS MLFLOW_SERVER_CORS_ALLOWED_ORIGINS
    mkdir -p "$TRIMTAB_HOME/mlflow/artifacts"
    become python -P -m deployments.stack.launch deployments.stack.mlflow_server --workers 1 --host 0.0.0.0 --port 5000 \
      --artifacts-destination "$TRIMTAB_HOME/mlflow/artifacts" --serve-artifacts \
      --allowed-hosts "$MLFLOW_SERVER_ALLOWED_HOSTS" --cors-allowed-origins "$MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
    ;;
  worker)
    need TRIMTAB_HOME TRIMTAB_PREFECT_API_URL TRIMTAB_MLFLOW_TRACKING_URI TRIMTAB_SCORING TRIMTAB_LEDGER_URL
    become python -P -m deployments.stack.launch deployments.stack.worker
    ;;
  registry-watch)
    need TRIMTAB_HOME TRIMTAB_PREFECT_API_URL TRIMTAB_MLFLOW_TRACKING_URI TRIMTAB_LEDGER_URL
    become python -P -m deployments.hands --home "$TRIMTAB_HOME" --mlflow "$TRIMTAB_MLFLOW_TRACKING_URI"
    ;;
  evidently)
    need TRIMTAB_HOME
    mkdir -p "$TRIMTAB_HOME/evidently"
    become python -P -m deployments.stack.launch deployments.stack.evidently_ui ui \
      --workspace "$TRIMTAB_HOME/evidently" \
      --host 0.0.0.0 --port 8000
    ;;
  scoring)
    # Within the container every address is open; the compose file publishes it on the host's loopback alone.
    # SCORING_AUTH=--auth wants a token of everybody.
    need TRIMTAB_HOME TRIMTAB_MLFLOW_TRACKING_URI
    become python -P -m deployments.stack.launch deployments.scoring --name "$2" --home "$TRIMTAB_HOME" \
      --mlflow "$TRIMTAB_MLFLOW_TRACKING_URI" --host 0.0.0.0 --port 8080 "${SCORING_AUTH:---without-auth}"
    ;;
  deploy)
    need TRIMTAB_HOME TRIMTAB_PREFECT_API_URL
    become python -P -c "$deploy_recipe" "$2"
    ;;
  healthy)
    exec python -I -c "$health" "$2"
    ;;
  *) usage ;;
esac
