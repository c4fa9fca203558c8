"""TensorFlow's form of ONNX operations that compute element by element, or move elements.

Each is a function of the node's attributes and inputs (numpy arrays where the graph knows them, tensors, or None for an
optional one that is missing) and gives one tensor or a list. Semantics: ONNX operators, opset 13 and later.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

Attributes = Mapping[str, Any]
Operation = Callable[..., Any]
PLAIN: dict[str, Operation] = {}
_FAR = 2**31 - 1  # ONNX's "to the end" is the largest int64; TensorFlow slices in int32


def static(value: Any) -> Any:
    """The numpy array a tensor is known to be while the graph is built, or None."""
    return value if value is None or isinstance(value, np.ndarray) else tf.get_static_value(value)


def known(value: Any, what: str) -> Any:
    """The same, where TensorFlow needs it.

    Raises:
        NotImplementedError: it depends on the inputs.
    """
    found = static(value)
    if found is None:
        raise NotImplementedError(f"{what} depend on the inputs")
    return found


def _register(table: Mapping[str, Operation]) -> None:
    for name, function in table.items():
        PLAIN[name] = lambda attributes, *inputs, _function=function: _function(*inputs)


_register(
    {
        "Add": tf.add,
        "Sub": tf.subtract,
        "Mul": tf.multiply,
        "Pow": lambda x, y: tf.pow(x, tf.cast(y, tf.convert_to_tensor(x).dtype)),
        "Neg": tf.negative,
        "Abs": tf.abs,
        "Sqrt": tf.sqrt,
        "Exp": tf.exp,
        "Log": tf.math.log,
        "Erf": tf.math.erf,
        "Sin": tf.sin,
        "Cos": tf.cos,
        "Floor": tf.floor,
        "Ceil": tf.math.ceil,
        "Round": tf.round,
        "Sign": tf.sign,
        "Reciprocal": tf.math.reciprocal,
        "Sigmoid": tf.sigmoid,
        "Tanh": tf.tanh,
        "Relu": tf.nn.relu,
        "Softplus": tf.math.softplus,
        "Softsign": tf.nn.softsign,
        "HardSwish": lambda x: x * tf.clip_by_value(x / 6 + 0.5, 0, 1),
        "Mish": lambda x: x * tf.tanh(tf.math.softplus(x)),
        "PRelu": lambda x, slope: tf.where(x < 0, x * slope, x),
        "Identity": tf.identity,
        "Not": tf.logical_not,
        "And": tf.logical_and,
        "Or": tf.logical_or,
        "Xor": tf.math.logical_xor,
        "Equal": tf.equal,
        "Less": tf.less,
        "LessOrEqual": tf.less_equal,
        "Greater": tf.greater,
        "GreaterOrEqual": tf.greater_equal,
        "IsNaN": tf.math.is_nan,
        "IsInf": tf.math.is_inf,
        "Where": tf.where,
        "MatMul": tf.matmul,
        "Tile": tf.tile,
        "Size": lambda x: tf.size(x, out_type=tf.int64),
        "Range": tf.range,
        "Expand": lambda x, shape: tf.broadcast_to(x, tf.broadcast_dynamic_shape(_shape(x), tf.cast(shape, tf.int64))),
        "GatherND": lambda x, at: tf.gather_nd(x, at),
        "CastLike": lambda x, like: tf.cast(x, like.dtype),
    }
)


def _shape(x: Any) -> Any:
    return tf.shape(x, out_type=tf.int64)


def _operation(function: Operation) -> Operation:
    PLAIN[function.__name__.removeprefix("_")] = function
    return function


@_operation
def _Div(attributes: Attributes, x: Any, y: Any) -> Any:
    x = tf.convert_to_tensor(x)
    return tf.truncatediv(x, y) if x.dtype.is_integer else tf.divide(x, y)


@_operation
def _Min(attributes: Attributes, first: Any, *others: Any) -> Any:
    for other in others:
        first = tf.minimum(first, other)
    return first


@_operation
def _Max(attributes: Attributes, first: Any, *others: Any) -> Any:
    for other in others:
        first = tf.maximum(first, other)
    return first


@_operation
def _Clip(attributes: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else tf.maximum(x, low)
    return x if high is None else tf.minimum(x, high)


@_operation
def _LeakyRelu(attributes: Attributes, x: Any) -> Any:
    return tf.where(x < 0, x * attributes.get("alpha", 0.01), x)


@_operation
def _Elu(attributes: Attributes, x: Any) -> Any:
    return tf.where(x < 0, attributes.get("alpha", 1.0) * tf.math.expm1(x), x)


@_operation
def _HardSigmoid(attributes: Attributes, x: Any) -> Any:
    return tf.clip_by_value(attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5), 0, 1)


@_operation
def _Gelu(attributes: Attributes, x: Any) -> Any:
    return tf.nn.gelu(x, approximate=attributes.get("approximate", b"none") == b"tanh")


@_operation
def _Softmax(attributes: Attributes, x: Any) -> Any:
    return tf.nn.softmax(x, axis=attributes.get("axis", -1))


@_operation
def _LogSoftmax(attributes: Attributes, x: Any) -> Any:
    return tf.nn.log_softmax(x, axis=attributes.get("axis", -1))


@_operation
def _Cast(attributes: Attributes, x: Any) -> Any:
    return tf.cast(x, tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])))


@_operation
def _Constant(attributes: Attributes) -> Any:
    (value,) = attributes.values()
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


@_operation
def _ConstantOfShape(attributes: Attributes, shape: Any) -> Any:
    value = onnx.numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return tf.fill(shape, value.reshape(())[()])


@_operation
def _Shape(attributes: Attributes, x: Any) -> Any:
    return _shape(x)[attributes.get("start", 0) : attributes.get("end")]


@_operation
def _Reshape(attributes: Attributes, x: Any, shape: Any) -> Any:
    sizes = static(shape)
    if sizes is None or attributes.get("allowzero", 0) or (sizes != 0).all():
        return tf.reshape(x, shape)
    own = _shape(x)  # 0 stands for the input's own size there
    return tf.reshape(x, tf.stack([own[axis] if size == 0 else size for axis, size in enumerate(sizes.tolist())]))


@_operation
def _Flatten(attributes: Attributes, x: Any) -> Any:
    shape, axis = _shape(x), attributes.get("axis", 1)
    rows, columns = tf.reduce_prod(shape[:axis]), int(np.prod(x.shape[axis:]))
    return tf.reshape(x, tf.stack([rows, tf.constant(columns, tf.int64)]))


@_operation
def _Transpose(attributes: Attributes, x: Any) -> Any:
    return tf.transpose(x, attributes.get("perm"))


@_operation
def _Squeeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    return tf.squeeze(x, None if axes is None else known(axes, "axes").tolist())


@_operation
def _Unsqueeze(attributes: Attributes, x: Any, axes: Any) -> Any:
    rank = len(x.shape) + len(known(axes, "axes"))
    for axis in sorted(int(axis) % rank for axis in known(axes, "axes")):
        x = tf.expand_dims(x, axis)
    return x


@_operation
def _Concat(attributes: Attributes, *values: Any) -> Any:
    return tf.concat(values, attributes["axis"])


@_operation
def _Split(attributes: Attributes, x: Any, sizes: Any = None) -> Any:
    axis = attributes.get("axis", 0)
    if sizes is not None:
        return tf.split(x, known(sizes, "sizes").tolist(), axis)
    count = attributes["num_outputs"]
    each = -(-x.shape[axis] // count)
    return tf.split(x, [each] * (count - 1) + [x.shape[axis] - each * (count - 1)], axis)


@_operation
def _Slice(attributes: Attributes, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    count = int(starts.shape[0])
    chosen = list(range(count)) if axes is None else known(axes, "axes").tolist()
    stride = [1] * count if steps is None else known(steps, "steps").tolist()
    cuts: list[Any] = [slice(None)] * len(x.shape)
    for place, axis in enumerate(chosen):
        cuts[axis] = slice(_bound(starts, place), _bound(ends, place), int(stride[place]))
    return x[tuple(cuts)]


def _bound(values: Any, place: int) -> Any:
    found = static(values)
    if found is None:
        return tf.cast(values[place], tf.int32)
    return None if abs(int(found[place])) >= _FAR else int(found[place])


@_operation
def _Gather(attributes: Attributes, x: Any, at: Any) -> Any:
    axis = attributes.get("axis", 0)
    at = tf.convert_to_tensor(at)
    size = tf.cast(_shape(x)[axis], at.dtype)
    return tf.gather(x, tf.where(at < 0, at + size, at), axis=axis)


@_operation
def _Pad(attributes: Attributes, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    mode = attributes.get("mode", b"constant").decode()
    if mode not in ("constant", "reflect"):
        raise NotImplementedError(f"padding mode {mode}")
    sizes = known(pads, "pads").tolist()
    chosen = list(range(len(x.shape))) if axes is None else known(axes, "axes").tolist()
    paddings = [[0, 0] for _ in x.shape]
    for place, axis in enumerate(chosen):
        paddings[axis] = [sizes[place], sizes[place + len(chosen)]]
    if min(min(pair) for pair in paddings) < 0:
        raise NotImplementedError("negative padding")
    filled = 0 if value is None else np.asarray(known(value, "values")).reshape(())[()]
    return tf.pad(x, paddings, mode.upper(), constant_values=filled)


@_operation
def _Trilu(attributes: Attributes, x: Any, k: Any = None) -> Any:
    above = 0 if k is None else int(known(k, "diagonals"))
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])[None]
    kept = columns - rows >= above if attributes.get("upper", 1) else columns - rows <= above
    return tf.where(kept, x, tf.zeros_like(x))


@_operation
def _ArgMax(attributes: Attributes, x: Any) -> Any:
    axis = attributes.get("axis", 0)
    found = tf.argmax(x, axis)
    return tf.expand_dims(found, axis) if attributes.get("keepdims", 1) else found


@_operation
def _Gemm(attributes: Attributes, x: Any, y: Any, bias: Any = None) -> Any:
    transposed = bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0))
    out = tf.matmul(x, y, *transposed) * attributes.get("alpha", 1.0)
    return out if bias is None else out + attributes.get("beta", 1.0) * bias


@_operation
def _Einsum(attributes: Attributes, *values: Any) -> Any:
    return tf.einsum(attributes["equation"].decode(), *values)


def _reduction(reduce: Operation) -> Operation:
    def operation(attributes: Attributes, x: Any, axes: Any = None) -> Any:
        given = attributes.get("axes") if axes is None else known(axes, "axes").tolist()
        if not given and attributes.get("noop_with_empty_axes", 0):
            return x
        return reduce(x, given or None, keepdims=bool(attributes.get("keepdims", 1)))

    return operation


for _name, _reduce in (
    ("Mean", tf.reduce_mean),
    ("Sum", tf.reduce_sum),
    ("Max", tf.reduce_max),
    ("Min", tf.reduce_min),
    ("Prod", tf.reduce_prod),
    ("L2", lambda x, axes, keepdims: tf.sqrt(tf.reduce_sum(x * x, axes, keepdims=keepdims))),
):
    PLAIN[f"Reduce{_name}"] = _reduction(_reduce)
