"""TensorFlow SavedModel on the CPU: the folder `saved_model` of a converted folder.

TensorFlow is not in our environment: while verifying and serving, this file runs in a worker's (`remote.py`); in a
release it runs in the release's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec

# bundle: keep


class Predictor:
    """The function `serving_default` of a SavedModel.

    Reentrant: a TensorFlow function keeps no state here.

    The number of threads is a setting of TensorFlow for the whole process, fixed once it has computed anything.

    Attributes:
        spec: inputs and outputs, as in spec.json.
        reentrant: whether `predict` may be called from several threads at once.
    """

    reentrant = True

    def __init__(self, model: Any, spec: dict[str, Any]) -> None:
        self.spec = spec
        self._model = model  # its function does not keep it alive
        self._function = model.signatures["serving_default"]
        taken = self._function.structured_input_signature[1]
        # An input that does not influence the answer may be missing in the function.
        self._inputs = [tensor["name"] for tensor in spec["inputs"] if tensor["name"] in taken]
        self._outputs = [tensor["name"] for tensor in spec["outputs"]]

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Open `folder` with `threads` threads inside an operator and operators one after the other.

        Raises:
            RuntimeError: TensorFlow has begun to compute in this process with another number of threads.
        """
        threading = tf.config.threading
        if threading.get_intra_op_parallelism_threads() != threads:
            threading.set_intra_op_parallelism_threads(threads)
            threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices([], "GPU")
        return cls(tf.saved_model.load(str(Path(folder) / "saved_model")), load_spec(Path(folder)))

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...); the arrays are copies, safe to keep.

        Raises:
            InputError: the inputs do not fit the specification.
        """
        ready = check_inputs(self.spec, inputs)
        values = self._function(**{name: tf.constant(ready[name]) for name in self._inputs})
        return {name: np.array(values[name]) for name in self._outputs}
