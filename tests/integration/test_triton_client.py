"""Triton's own Python client against the real service: it knows nothing of us, and must notice nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from test_serving_process import process, wait_for_version, write_release
from tritonclient.utils import InferenceServerException

from trimtab.journal.reader import end, window

pytestmark = pytest.mark.integration
CLASSES = triton.InferRequestedOutput("probabilities", class_count=2)
IMAGES = np.random.default_rng(5).normal(size=(3, 1, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, Path]]:
    home = tmp_path_factory.mktemp("triton")
    release = write_release(home / "release", 1)
    arguments = ("--home", str(home), "--release-folder", str(release), "--version", "3")
    with process("trimtab.serving", *arguments) as (_, plain):
        wait_for_version(plain, "3")
        address = f"{plain.base_url.host}:{plain.base_url.port}"
        with triton.InferenceServerClient(address, concurrency=4) as client:
            yield client, plain, home


def expected(plain: Any) -> np.ndarray:
    answer = plain.post("/invocations", json={"inputs": IMAGES.astype(float).tolist()})
    return np.array(answer.json()["predictions"]["probabilities"], np.float32)


def images(*, binary: bool = True, values: np.ndarray = IMAGES, datatype: str = "FP32") -> Any:
    tensor = triton.InferInput("input", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def test_health_and_metadata(served: Any) -> None:
    client, _, _ = served
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "3")
    assert not client.is_model_ready("tiny", "4")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("tiny")
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 4, 4]}]
    assert metadata["versions"] == ["3"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [None, True, False])
def test_inference_gives_the_numbers_of_invocations(served: Any, binary_in: bool, binary_out: bool | None) -> None:
    client, plain, _ = served
    outputs = None if binary_out is None else [triton.InferRequestedOutput("probabilities", binary_data=binary_out)]
    result = client.infer("tiny", [images(binary=binary_in)], outputs=outputs, request_id="order-1", model_version="3")
    np.testing.assert_array_equal(result.as_numpy("probabilities"), expected(plain))
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("order-1", "tiny", "3")


def test_a_request_is_journalled_under_its_id_and_labelled_by_it(served: Any) -> None:
    client, plain, home = served
    client.infer("tiny", [images()], request_id="order-77")
    answer = plain.post("/labels", json=[{"request_id": "order-77", "row": 2, "label": 1}])
    assert answer.json() == {"accepted": 1, "known": 1, "unknown": 0}
    journal = home / "journal" / "tiny"
    rows = window(journal, 0, end(journal))
    mine = [index for index, name in enumerate(rows.request_id) if name == "order-77"]
    np.testing.assert_array_equal(rows.inputs["input"][mine], IMAGES)


def test_other_number_types_and_async_requests(served: Any) -> None:
    client, plain, _ = served
    wide = client.infer("tiny", [images(values=IMAGES.astype(np.float64), datatype="FP64")])
    np.testing.assert_array_equal(wide.as_numpy("probabilities"), expected(plain))
    half = client.infer("tiny", [images(values=IMAGES.astype(np.float16), datatype="FP16")])
    np.testing.assert_allclose(half.as_numpy("probabilities"), expected(plain), atol=1e-2)
    under_way = [client.async_infer("tiny", [images(values=IMAGES[i : i + 1])]) for i in (0, 1, 2, 0)]
    rows = [request.get_result().as_numpy("probabilities")[0] for request in under_way]
    np.testing.assert_allclose(rows, expected(plain)[[0, 1, 2, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "status", "told"),
    [
        (lambda client: client.infer("other", [images()]), "404", "no such model"),
        (lambda client: client.infer("tiny", [images()], model_version="9"), "404", "does not serve"),
        (lambda client: client.infer("tiny", [images(values=IMAGES[:, :, :3])]), "400", "shape"),
        (lambda client: client.infer("tiny", [triton.InferInput("input", [1], "BYTES")]), "400", "BYTES"),
        (lambda client: client.infer("tiny", [images()], outputs=[triton.InferRequestedOutput("x")]), "400", "output"),
        (lambda client: client.infer("tiny", [images()], outputs=[CLASSES]), "400", "classification"),
        (lambda client: client.infer("tiny", [images()], request_compression_algorithm="deflate"), "415", "identity"),
        (lambda client: client.get_model_metadata("other"), "404", "no such model"),
    ],
)  # fmt: skip
def test_errors_reach_the_caller_as_the_clients_exception(served: Any, call: Any, status: str, told: str) -> None:
    client, _, _ = served
    with pytest.raises(InferenceServerException) as caught:
        call(client)
    assert caught.value.status() == status
    assert told in caught.value.message()
