#!/usr/bin/env bash
# Run once by the postgres image, when its volume is new: a database and its owner for Prefect, MLflow and the ledger.
# None of the three can connect to another's.
set -euo pipefail

create() {
  psql --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
}

create prefect "${PREFECT_DB_PASSWORD:?}"
create mlflow "${MLFLOW_DB_PASSWORD:?}"
create ledger "${LEDGER_DB_PASSWORD:?}"
