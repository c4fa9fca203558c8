"""The compose file, the image and its scripts agree with each other and with the stack they stand for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

import trimtab
from deployments.environment import PACKAGE_ROOT, environment
from deployments.hands.beat import beat, beat_file
from deployments.stack.ports import Ports
from deployments.stack.services import POOL, Service, scoring_name, services
from deployments.telemetry import TELEMETRY_OFF
from trimtab.settings import Settings

DOCKER = PACKAGE_ROOT / "docker"
ENTRYPOINT = DOCKER / "entrypoint.sh"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "postgres"}
ONE_SHOT = {name for name, service in SERVICES.items() if service["restart"] == "no"}
PORTS = {"prefect": 4200, "mlflow": 5000, "evidently": 8000, "scoring-digits": 8080, "postgres": 5432}
RECORDER = "import json, sys; print(json.dumps(sys.argv[1:]))"


def executable(path: Path, code: str) -> Path:
    """A script that runs the Python code with this interpreter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return path


def started(name: str, folder: Path) -> list[str]:
    """The arguments that a service's entry point gives to `python`."""
    executable(folder / "bin" / "python", RECORDER)
    around = {**SERVICES[name]["environment"], "PATH": f"{folder / 'bin'}:/usr/bin:/bin", "TRIMTAB_HOME": str(folder)}
    command = ["bash", str(ENTRYPOINT), *SERVICES[name]["command"]]
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def local(folder: Path) -> dict[str, Service]:
    """The services of a local stack on the usual ports, its state in `folder`."""
    return {
        service.name: service
        for service in services(Settings(home=folder), Ports(scoring={"digits": PORTS[scoring_name("digits")]}))
    }


def without(arguments: list[str], *options: str) -> list[str]:
    """The arguments less these options and their values."""
    dropped = {index + shift for index, given in enumerate(arguments) if given in options for shift in (0, 1)}
    return [given for index, given in enumerate(arguments) if index not in dropped]


@pytest.mark.parametrize("script", sorted(DOCKER.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_bash_and_can_be_executed(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_a_dependency_is_a_service_that_can_meet_its_condition() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES, f"{name} depends on {needed}"
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[needed], f"{needed} can never become healthy"


def test_a_service_waits_for_every_service_its_work_needs() -> None:
    needed = {"prefect": {"postgres"}, "mlflow": {"postgres"}, "worker": {"postgres", "prefect", "mlflow"}}
    needed |= {"registry-watch": needed["worker"], "scoring-digits": {"mlflow"}, "deploy": {"prefect"}}
    assert {name: set(service["depends_on"]) for name, service in SERVICES.items() if "depends_on" in service} == needed


def test_what_stays_up_has_a_health_check_and_what_ends_is_not_restarted() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == ONE_SHOT == {"deploy"}


def test_ports_are_published_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in PORTS.items() if name != "postgres"}
    assert not any(service.get("network_mode") for service in SERVICES.values())


def test_images_have_a_version() -> None:
    for service in SERVICES.values():
        assert service["image"].partition(":")[2] not in ("", "latest")
    assert {service["image"] for service in OURS.values()} == {f"trimtab:{trimtab.__version__}"}
    defaults = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DOCKER / "Dockerfile").read_text(), re.M)
    assert defaults == ["python:3.11-slim"]


def test_named_volumes_are_declared_and_lie_where_the_image_has_a_folder_of_its_user() -> None:
    named = {}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            if not volume.startswith((".", "$")):
                named.setdefault(volume.split(":")[0], set()).add((name, volume.split(":")[1]))
    assert set(named) == set(COMPOSE["volumes"])
    paths = {path for users in named.values() for user, path in users if user in OURS}
    assert paths == {SERVICES["worker"]["environment"]["TRIMTAB_HOME"]}
    assert f"install -d -o trimtab -g trimtab {paths.pop()}" in (DOCKER / "Dockerfile").read_text()
    # The service writes the journal and the reports, the worker reads and writes them, Evidently shows the workspace.
    assert {user for user, _ in named["state"]} >= {"worker", "scoring-digits", "evidently"}


def test_the_compose_file_is_valid_by_the_schema_of_the_compose_specification(tmp_path: Path) -> None:
    def checked(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked(DOCKER / "compose.yaml").returncode == 0
    broken = tmp_path / "compose.yaml"
    broken.write_text(yaml.safe_dump({"services": {"mlflow": {"image": "x", "healthchek": {}}}}))
    assert "healthchek" in checked(broken).stdout


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_variables_are_settings_and_telemetry_is_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = OURS[name]["environment"]
    assert all(isinstance(value, str) for value in given.values())
    assert given.items() >= TELEMETRY_OFF.items()
    ours = {variable for variable in given if variable.startswith("TRIMTAB_")}
    assert {variable.removeprefix("TRIMTAB_").lower() for variable in ours} <= set(Settings.model_fields)
    for variable in ours:
        monkeypatch.setenv(variable, given[variable])
    settings = Settings.load()
    for release, url in settings.scoring.items():
        assert SERVICES[urlsplit(url).hostname or ""]["command"] == ["scoring", release]
    assert settings.ledger.startswith("postgresql+psycopg2://ledger:") == (name in ("worker", "registry-watch"))


def test_addresses_lead_to_services_by_the_port_they_listen_on() -> None:
    for name, service in OURS.items():
        for variable, value in service["environment"].items():
            for scheme, host, port in re.findall(r"([\w+]+)://(?:[^/@\"]*@)?([\w.-]+):(\d+)", value):
                if host in ("127.0.0.1", "localhost"):  # for a browser on the host
                    assert variable in (
                        "PREFECT_UI_URL",
                        "PREFECT_SERVER_UI_API_URL",
                        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
                    )
                else:
                    assert PORTS[host] == int(port), f"{name}: {variable}"
                    assert host in service["environment"]["NO_PROXY"].split(",")
                assert scheme in ("http", "postgresql+asyncpg", "postgresql+psycopg2")
        assert service["environment"]["NO_PROXY"] == service["environment"]["no_proxy"]


def test_mlflow_is_told_every_host_name_it_is_called_by() -> None:
    given = SERVICES["mlflow"]["environment"]
    called = {urlsplit(given["TRIMTAB_MLFLOW_TRACKING_URI"]).netloc, "127.0.0.1:5000", "localhost:5000"}
    assert set(given["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")) == called
    assert set(given["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")) == {f"http://{host}" for host in called}


def test_databases_of_the_addresses_are_created_with_the_password_of_the_address() -> None:
    created = dict(re.findall(r'^create (\w+) "\$\{(\w+):\?\}"$', (DOCKER / "init-databases.sh").read_text(), re.M))
    text = (DOCKER / "compose.yaml").read_text()
    used = re.findall(r"postgresql\+\w+://(\w+):\$\{(\w+)\}@postgres:5432/(\w+)", text)
    assert {user: secret for user, secret, _ in used} == created
    assert all(user == database for user, _, database in used)
    assert set(created.values()) <= set(SERVICES["postgres"]["environment"])
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {"POSTGRES_PASSWORD", *created.values()}
    example = (DOCKER / ".env.example").read_text()
    assert set(re.findall(r"^(\w+)=$", example, re.M)) == required  # named, and without a value


@pytest.mark.parametrize("name", sorted(set(OURS) - ONE_SHOT))
def test_the_entry_point_starts_what_the_local_stack_starts(name: str, tmp_path: Path) -> None:
    given = started(name, tmp_path)
    assert given[:2] == ["-P", "-c"]  # in our environment
    expected = [sys.executable if token == "python" else token for token in given[3:]]
    address = SERVICES[name]["environment"]["TRIMTAB_MLFLOW_TRACKING_URI"]
    here = [
        {"127.0.0.1": "0.0.0.0", f"http://127.0.0.1:{PORTS['mlflow']}": address}.get(token, token)
        for token in without(list(local(tmp_path)[name].command), "--backend-store-uri")
    ]
    beyond = [token for token in expected if token != "--without-auth"]
    assert without(beyond, "--allowed-hosts", "--cors-allowed-origins") == here
    assert ("--without-auth" in expected) == (name == "scoring-digits")
    assert ("--allowed-hosts" in expected) == ("--cors-allowed-origins" in expected) == (name == "mlflow")


@pytest.mark.parametrize("name", sorted(set(OURS) - ONE_SHOT))
def test_health_and_time_to_stop_are_those_of_the_local_stack(name: str, tmp_path: Path) -> None:
    service = local(tmp_path)[name]
    asked = f"http://127.0.0.1:{PORTS[name]}{service.health}" if service.url else "beat" if service.beat else "worker"
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "/opt/trimtab/entrypoint.sh", "healthy", asked]
    assert SERVICES[name]["stop_grace_period"] == f"{service.stop_s}s"


def test_the_deployment_runs_in_our_environment_and_refuses_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    _, _, ours, *command = started("deploy", tmp_path)
    see = "import os, json; from prefect.settings import Settings as S; n = S().to_environment_variables("
    see += "exclude_unset=True, include_aliases=True); print(json.dumps([sorted(n), dict(os.environ)]))"
    given = {**SERVICES["prefect"]["environment"], "TRIMTAB_HOME": str(tmp_path), "PYTHONPATH": str(PACKAGE_ROOT)}
    given |= {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    run = [sys.executable, "-P", "-c", ours, sys.executable, "-P", "-c"]

    names, around = json.loads(subprocess.run([*run, see], env=given, capture_output=True, check=True).stdout)
    placed = Settings(home=tmp_path, prefect_api_url=given["TRIMTAB_PREFECT_API_URL"])
    wanted = {name: value for name, value in environment(placed).items() if name.startswith("PREFECT_")}
    assert around.items() >= {**wanted, **TELEMETRY_OFF}.items()
    assert {name for name in given if name.startswith("PREFECT_")} <= set(names)  # Prefect knows each of them

    assert command[:3] == ["python", "-P", "-c"]
    assert command[4] == "/recipes/digits/recipe.yaml"
    missing = subprocess.run(
        [*run, command[3], "/no/recipe.yaml"], env=given, capture_output=True, text=True, check=False
    )
    assert missing.returncode == 2, missing.stderr
    assert "no such file" in missing.stderr


@pytest.mark.parametrize("arguments", [[], ["everything"], ["scoring"], ["worker", "now"], ["mlflow"]])
def test_the_entry_point_refuses_an_unknown_role_and_a_missing_address(arguments: list[str]) -> None:
    around = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", str(ENTRYPOINT), *arguments], env=around, capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert ("TRIMTAB_HOME is not set" if arguments == ["mlflow"] else "usage:") in done.stderr


class Prefect(BaseHTTPRequestHandler):
    """As much of the API as the health checks ask."""

    workers: list[dict[str, str]]

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 503)
        self.end_headers()

    def do_POST(self) -> None:
        self.send_response(200 if self.path == f"/api/work_pools/{POOL}/workers/filter" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(type(self).workers).encode())

    def log_message(self, *arguments: Any) -> None:
        """Silent."""


@pytest.fixture
def api() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Prefect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_a_health_check_tells_healthy_from_not(api: str, tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    around = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRIMTAB_PREFECT_API_URL": api, "http_proxy": "http://127.0.0.1:9"}
    around["TRIMTAB_HOME"] = str(tmp_path)

    def healthy(what: str) -> bool:
        return not subprocess.run(
            ["bash", str(ENTRYPOINT), "healthy", what], env=around, capture_output=True
        ).returncode

    assert healthy(f"{api}/health")
    assert not healthy(f"{api}/other")
    Prefect.workers = [{"status": "OFFLINE"}, {"status": "ONLINE"}]
    assert healthy("worker")
    Prefect.workers = [{"status": "OFFLINE"}]
    assert not healthy("worker")
    assert not healthy("beat")
    beat(beat_file(tmp_path))
    assert healthy("beat")
    os.utime(beat_file(tmp_path), (time.time() - 61, time.time() - 61))
    assert not healthy("beat")


def test_the_image_installs_the_run_time_lock_and_the_postgres_driver_but_no_developer_tools(tmp_path: Path) -> None:
    """With an interpreter that only writes down what pip was asked for."""
    log = tmp_path / "calls"
    code = "import sys; from pathlib import Path\n"
    code += "files = [Path(b).read_text() for a, b in zip(sys.argv, sys.argv[1:]) if a == '-r']\n"
    code += f"import json; print(json.dumps([sys.argv[1:], files]), file=open({str(log)!r}, 'a'))"
    executable(tmp_path / "venv" / "bin" / "python", code)

    subprocess.run(["bash", str(DOCKER / "install.sh"), str(tmp_path / "venv"), "lock"], check=True)

    (first, locks), (second, torch) = [json.loads(line) for line in log.read_text().splitlines()]
    assert "--require-hashes" in first
    assert "--no-deps" in first
    assert locks[0] == (PACKAGE_ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^([\w.-]+)==", locks[1], re.M)
    assert pinned == ["psycopg2-binary"]
    assert "--hash=sha256:" in locks[1]
    assert torch == [(PACKAGE_ROOT / "torch.lock").read_text()]
    assert "--require-hashes" not in second


def test_what_the_dockerfile_copies_is_let_through_and_holds_no_address_of_an_index() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in text.splitlines() if re.match(r"COPY (?!--from)", line)]
    let_through = {line[1:] for line in (PACKAGE_ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert {source for sources in copied for source in sources} == let_through
    assert re.findall(r"^USER (\S+)$", text, re.M) == ["10001:10001"]
    assert "://" not in text
