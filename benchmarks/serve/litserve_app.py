"""The model on LitServe, as its documentation has it; runs in LitServe's own environment, without our package.

python litserve_app.py MODEL PORT
"""

import sys

import litserve
import numpy as np
import onnxruntime


class Api(litserve.LitAPI):
    """One worker with one inference thread."""

    def setup(self, device: str) -> None:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads a type here as FastAPI does
        """Rows of a JSON body."""
        return np.array(request["instances"], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities."""
        return self.session.run(None, {"input": x})[0]

    def encode_response(self, output: np.ndarray) -> dict:
        """The body of the answer."""
        return {"predictions": {"probabilities": output.tolist()}}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
