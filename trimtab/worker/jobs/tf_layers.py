"""TensorFlow's form of ONNX layers: convolution, pooling, normalisation, recurrent networks.

TensorFlow convolves on a CPU with channels last only: each such layer turns its input and its answer, and nothing else
in the graph is turned.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tf_plain import Attributes, Operation, known

LAYERS: dict[str, Operation] = {}


def _layer(function: Operation) -> Operation:
    LAYERS[function.__name__.removeprefix("_")] = function
    return function


def _last(x: Any) -> Any:
    rank = len(x.shape)
    return tf.transpose(x, [0, *range(2, rank), 1])


def _first(x: Any) -> Any:
    rank = len(x.shape)
    return tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])


def _pads(attributes: Attributes, spatial: int) -> list[list[int]]:
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise NotImplementedError(f"auto_pad {attributes['auto_pad']!r}")
    pads = list(attributes.get("pads", [0] * 2 * spatial))
    return [[0, 0], *([pads[axis], pads[axis + spatial]] for axis in range(spatial)), [0, 0]]


@_layer
def _Conv(attributes: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    kernel = known(weight, "weights")  # (out, in / groups, *size)
    spatial, groups = kernel.ndim - 2, attributes.get("group", 1)
    strides = list(attributes.get("strides", [1] * spatial))
    dilations = list(attributes.get("dilations", [1] * spatial))
    x = tf.pad(_last(x), _pads(attributes, spatial))
    turned = np.transpose(kernel, [*range(2, kernel.ndim), 1, 0])
    parts = zip(tf.split(x, groups, -1), np.split(turned, groups, -1), strict=True)
    if groups == x.shape[-1] and groups > 1 and spatial == 2 and len(set(strides)) == 1:
        each = kernel.shape[0] // groups  # depthwise: (*size, channel, answers of this channel)
        by_channel = turned.reshape(*turned.shape[:2], groups, each)
        out = tf.nn.depthwise_conv2d(x, by_channel, [1, *strides, 1], "VALID", dilations=dilations)
    else:
        out = tf.concat(
            [tf.nn.convolution(part, held, strides, "VALID", dilations=dilations) for part, held in parts], -1
        )
    return _first(out if bias is None else out + bias)


def _pooled(attributes: Attributes, x: Any, kind: str, filled: float) -> Any:
    window = list(attributes["kernel_shape"])
    strides = list(attributes.get("strides", [1] * len(window)))
    dilations = list(attributes.get("dilations", [1] * len(window)))
    pads = _pads(attributes, len(window))
    x = _last(x)
    if attributes.get("ceil_mode", 0):
        for axis, (size, stride, dilation) in enumerate(zip(window, strides, dilations, strict=True), start=1):
            reach = x.shape[axis] + sum(pads[axis]) - dilation * (size - 1) - 1
            short = -reach % stride
            # A window that would begin in the padding at the end is left out.
            if short and (reach // stride + 1) * stride < x.shape[axis] + pads[axis][0]:
                pads[axis][1] += short
    x = tf.pad(x, pads, constant_values=filled)
    return tf.nn.pool(x, window, kind, strides, "VALID", dilations=dilations)


@_layer
def _MaxPool(attributes: Attributes, x: Any) -> Any:
    return _first(_pooled(attributes, x, "MAX", -np.inf))


@_layer
def _AveragePool(attributes: Attributes, x: Any) -> Any:
    mean = _pooled(attributes, x, "AVG", 0.0)
    padded = any(attributes.get("pads", [])) or attributes.get("ceil_mode", 0)
    if padded and attributes.get("count_include_pad", 0) and attributes.get("ceil_mode", 0):
        raise NotImplementedError("an average with ceil_mode that counts padding")
    if padded and not attributes.get("count_include_pad", 0):
        mean = mean / _pooled(attributes, tf.ones_like(x[:1, :1]), "AVG", 0.0)
    return _first(mean)


@_layer
def _GlobalAveragePool(attributes: Attributes, x: Any) -> Any:
    return tf.reduce_mean(x, list(range(2, len(x.shape))), keepdims=True)


@_layer
def _GlobalMaxPool(attributes: Attributes, x: Any) -> Any:
    return tf.reduce_max(x, list(range(2, len(x.shape))), keepdims=True)


def _by_channel(values: Any, rank: int) -> Any:
    return tf.reshape(values, [1, -1, *[1] * (rank - 2)])


@_layer
def _BatchNormalization(attributes: Attributes, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    factor = known(scale, "scales") / np.sqrt(
        known(variance, "variances") + np.float32(attributes.get("epsilon", 1e-5))
    )
    shift = known(bias, "biases") - known(mean, "means") * factor
    return x * _by_channel(factor, len(x.shape)) + _by_channel(shift, len(x.shape))


def _normalised(x: Any, axes: Sequence[int], epsilon: float) -> Any:
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + epsilon)


@_layer
def _LayerNormalization(attributes: Attributes, x: Any, scale: Any, bias: Any = None) -> Any:
    rank = len(x.shape)
    axes = list(range(attributes.get("axis", -1) % rank, rank))
    out = _normalised(x, axes, attributes.get("epsilon", 1e-5)) * scale
    return out if bias is None else out + bias


@_layer
def _InstanceNormalization(attributes: Attributes, x: Any, scale: Any, bias: Any) -> Any:
    rank = len(x.shape)
    out = _normalised(x, list(range(2, rank)), attributes.get("epsilon", 1e-5))
    return out * _by_channel(scale, rank) + _by_channel(bias, rank)


@_layer
def _GroupNormalization(attributes: Attributes, x: Any, scale: Any, bias: Any) -> Any:
    rank, groups = len(x.shape), attributes["num_groups"]
    if len(known(scale, "scales")) != x.shape[1]:
        raise NotImplementedError("a scale for each group (opset 18)")
    shape = tf.shape(x)
    apart = tf.reshape(x, tf.concat([shape[:1], [groups, x.shape[1] // groups], shape[2:]], 0))
    apart = _normalised(apart, list(range(2, rank + 1)), attributes.get("epsilon", 1e-5))
    return tf.reshape(apart, shape) * _by_channel(scale, rank) + _by_channel(bias, rank)


def _refuse_odd(attributes: Attributes, lengths: Any) -> None:
    odd = [key for key in ("activations", "clip", "layout", "input_forget") if attributes.get(key)]
    if odd or lengths is not None:
        raise NotImplementedError(f"a recurrent layer with {', '.join(odd) or 'sequence lengths'}")


def _directions(attributes: Attributes) -> list[bool]:
    """Whether each direction reads from the end."""
    return {b"forward": [False], b"reverse": [True], b"bidirectional": [False, True]}[
        attributes.get("direction", b"forward")
    ]


def _start(given: Any, place: int, x: Any, hidden: int) -> Any:
    return tf.zeros(tf.stack([tf.shape(x)[1], hidden])) if given is None else given[place]


@_layer
def _GRU(
    attributes: Attributes, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, start: Any = None
) -> list[Any]:
    _refuse_odd(attributes, lengths)
    hidden, after = attributes["hidden_size"], attributes.get("linear_before_reset", 0)
    answers = []
    for place, backwards in enumerate(_directions(attributes)):
        bias = np.zeros(6 * hidden, np.float32) if b is None else known(b, "biases")[place]
        of_state = np.transpose(known(r, "weights")[place])
        inner = bias[3 * hidden :]

        def step(state: Any, given: Any, of_state: Any = of_state, inner: Any = inner) -> Any:
            both = given[:, : 2 * hidden] + tf.matmul(state, of_state[:, : 2 * hidden]) + inner[: 2 * hidden]
            update, reset = tf.split(tf.sigmoid(both), 2, 1)
            last, shift = of_state[:, 2 * hidden :], inner[2 * hidden :]
            recalled = reset * (tf.matmul(state, last) + shift) if after else tf.matmul(reset * state, last) + shift
            return (1 - update) * tf.tanh(given[:, 2 * hidden :] + recalled) + update * state

        given = tf.matmul(x, np.transpose(known(w, "weights")[place])) + bias[: 3 * hidden]
        given = tf.reverse(given, [0]) if backwards else given
        states = tf.scan(step, given, _start(start, place, x, hidden))
        answers.append((tf.reverse(states, [0]) if backwards else states, states[-1]))
    return [tf.stack([whole for whole, _ in answers], 1), tf.stack([end for _, end in answers], 0)]


@_layer
def _LSTM(
    attributes: Attributes,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lengths: Any = None,
    start: Any = None,
    cell: Any = None,
    peephole: Any = None,
) -> list[Any]:
    _refuse_odd(attributes, lengths)
    if peephole is not None:
        raise NotImplementedError("an LSTM with peepholes")
    hidden = attributes["hidden_size"]
    answers = []
    for place, backwards in enumerate(_directions(attributes)):
        bias = np.zeros(8 * hidden, np.float32) if b is None else known(b, "biases")[place]
        of_state = np.transpose(known(r, "weights")[place])

        def step(before: Any, given: Any, of_state: Any = of_state) -> Any:
            state, memory = before
            enter, leave, forget, fresh = tf.split(given + tf.matmul(state, of_state), 4, 1)
            memory = tf.sigmoid(forget) * memory + tf.sigmoid(enter) * tf.tanh(fresh)
            return tf.sigmoid(leave) * tf.tanh(memory), memory

        given = tf.matmul(x, np.transpose(known(w, "weights")[place])) + bias[: 4 * hidden] + bias[4 * hidden :]
        given = tf.reverse(given, [0]) if backwards else given
        begin = _start(start, place, x, hidden), _start(cell, place, x, hidden)
        states, memories = tf.scan(step, given, begin)
        answers.append((tf.reverse(states, [0]) if backwards else states, states[-1], memories[-1]))
    whole, ends, memory = zip(*answers, strict=True)
    return [tf.stack(whole, 1), tf.stack(ends, 0), tf.stack(memory, 0)]
