"""What anybody would write in twenty lines: Starlette, orjson and ONNX Runtime, no feature at all.

python -m benchmarks.serve.starlette_app MODEL PORT
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])


async def invocations(request: Request) -> Response:
    """Answer."""
    body = await request.body()
    if request.headers["content-type"] == "application/octet-stream":
        rows = np.frombuffer(body, np.float32).reshape(-1, 3, 32, 32)
    else:
        rows = np.array(orjson.loads(body)["instances"], np.float32)
    answer = session.run(None, {"input": rows})[0]
    content = orjson.dumps({"predictions": {"probabilities": answer}}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")


app = Starlette(routes=[Route("/invocations", invocations, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
