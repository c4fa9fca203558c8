"""The Open Inference Protocol (KServe v2) over REST: health, metadata, and inference on the release that serves.

As in https://github.com/kserve/open-inference-protocol, with the binary tensor data extension as Triton's clients use
it. There is one model, under the service's name, in one version, the one that serves; any other is 404.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trimtab import __version__
from trimtab.errors import ProtocolError
from trimtab.serving.answers import answer, oip_failure
from trimtab.serving.forms import Form
from trimtab.serving.health import why_not_alive, why_not_ready
from trimtab.serving.limits import check_elements
from trimtab.serving.release import Loaded
from trimtab.serving.scoring import respond
from trimtab.serving.service import Service
from trimtab.serving.v2_inference import HEADER_LENGTH, Inference
from trimtab.serving.v2_tensors import NAMES

EXTENSIONS = ["binary_tensor_data"]
MODEL = "/v2/models/{name}"
VERSIONED = MODEL + "/versions/{version}"


class Bound(Protocol):
    """Makes an ASGI endpoint of one of a service; `writes` refuses web pages of other origins."""

    def __call__(
        self, endpoint: Callable[[Service, Request], Awaitable[Response]], *, writes: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint."""


def routes(bound: Bound) -> list[Route]:
    """The protocol's routes."""
    return [
        Route("/v2", bound(_server)),
        Route("/v2/health/live", bound(_live)),
        Route("/v2/health/ready", bound(_ready)),
        *(Route(base, bound(_model)) for base in (MODEL, VERSIONED)),
        *(Route(f"{base}/ready", bound(_model_ready)) for base in (MODEL, VERSIONED)),
        *(Route(f"{base}/infer", bound(_infer, writes=True), methods=["POST"]) for base in (MODEL, VERSIONED)),
    ]


async def _server(service: Service, request: Request) -> Response:
    return answer({"name": "trimtab", "version": __version__, "extensions": EXTENSIONS})


async def _live(service: Service, request: Request) -> Response:
    why = why_not_alive(service)
    return answer({"live": True}) if why is None else _unavailable(why)


async def _ready(service: Service, request: Request) -> Response:
    why = why_not_ready(service)
    return answer({"ready": True}) if why is None else _unavailable(why)


async def _model_ready(service: Service, request: Request) -> Response:
    _check_name(service, request.path_params)
    if (why := why_not_ready(service)) is not None:
        return _unavailable(why)
    _check_version(_serving(service), request.path_params)
    return answer({"name": service.name, "ready": True})


async def _model(service: Service, request: Request) -> Response:
    _check_name(service, request.path_params)
    loaded = _serving(service)
    _check_version(loaded, request.path_params)
    spec = loaded.predictor.spec
    return answer(
        {
            "name": service.name,
            "versions": [loaded.version],
            "platform": str(loaded.facts.get("target", "")),
            "inputs": _metadata(spec["inputs"]),
            "outputs": _metadata(spec["outputs"]),
        }
    )


async def _infer(service: Service, request: Request) -> Response:
    _check_name(service, request.path_params)
    return await respond(service, request, partial(_form, request.path_params), oip_failure)


def _form(path: Mapping[str, Any], loaded: Loaded, body: bytes, headers: Mapping[str, str]) -> Form:
    """A request's form. Its Content-Type is not looked at: Triton's clients send none."""
    _check_version(loaded, path)
    if headers.get(HEADER_LENGTH) is None:  # JSON alone
        check_elements(body, loaded.limits.max_elements)
    return Inference(loaded, body, headers.get(HEADER_LENGTH))


def _unavailable(why: str) -> Response:
    return oip_failure(503, "TEMPORARILY_UNAVAILABLE", why, {"Retry-After": "1"})


def _serving(service: Service) -> Loaded:
    loaded = service.engine.current
    if loaded is None:
        raise ProtocolError("no release is loaded yet", code="TEMPORARILY_UNAVAILABLE", status=503)
    return loaded


def _check_name(service: Service, path: Mapping[str, Any]) -> None:
    if path["name"] != service.name:
        raise ProtocolError(f"there is no such model; this service has {service.name}", code="NOT_FOUND", status=404)


def _check_version(loaded: Loaded, path: Mapping[str, Any]) -> None:
    if path.get("version", loaded.version) != loaded.version:
        raise ProtocolError(f"this version does not serve; {loaded.version} does", code="NOT_FOUND", status=404)


def _metadata(tensors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tensors as the protocol describes them; a free axis is -1."""
    return [
        {
            "name": tensor["name"],
            "datatype": NAMES[str(tensor["dtype"])],
            "shape": [size if isinstance(size, int) else -1 for size in tensor["shape"]],
        }
        for tensor in tensors
    ]
