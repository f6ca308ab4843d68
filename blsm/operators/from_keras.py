"""Keras model to operator graph. Reads the computational graph, not layer names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blsm.errors import ModelFileError
from blsm.operators.graph import Operator, OperatorGraph, Shape

#: Layers that do nothing at inference, or that the converters remove.
_FREE = frozenset(
    """
    ActivityRegularization AlphaDropout Cast CastToFloat32 Dropout GaussianDropout GaussianNoise Identity InputLayer
    RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomElasticTransform RandomErasing
    RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization
    RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom SpatialDropout1D
    SpatialDropout2D SpatialDropout3D
    """.split()  # noqa: SIM905  # forty quoted lines read worse
)
#: Packages whose classes are what their names say; a user's own `Dropout` may do anything.
_PACKAGES = frozenset({"keras", "autokeras"})
#: Keras' names of functions under the names that the field uses.
_FUNCTION_NAMES = {"silu": "swish", "hard_silu": "hard_swish", "Silu": "swish", "HardSilu": "hard_swish"}
#: keras.ops functions used as graph nodes, e.g. keras.ops.relu6(x).
_FUNCTION_OPERATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Silu": "swish", "HardSilu": "hard_swish", "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid", "Softmax": "softmax", "Tanh": "tanh", "Gelu": "gelu", "Elu": "elu", "Selu": "selu",
}  # fmt: skip

_Step = tuple[str, Mapping[str, Any]]


def graph_from_keras(model: Any) -> OperatorGraph:
    """The operator graph of a functional or sequential Keras model, nested models included.

    Layers without a cost at inference are left out; layers unknown to blsm become operators of their class name.

    Raises:
        ModelFileError: the model is neither functional nor a built sequential model.
    """
    reader = _Reader()
    functional = _functional(model)
    for tensor in functional.inputs:
        reader.tensors[id(tensor)] = reader.append("input", (), {}, _shape(tensor), "")
    reader.read(functional)
    outputs = tuple(dict.fromkeys(reader.tensors[id(tensor)] for tensor in functional.outputs))
    return OperatorGraph(tuple(reader.operators), outputs)


def _functional(model: Any) -> Any:
    from keras import Sequential
    from keras.src.models import Functional

    if isinstance(model, Sequential) and model.built:
        model = model._functional
    if not isinstance(model, Functional):
        raise ModelFileError(
            f"cannot read the graph of {type(model).__name__} {getattr(model, 'name', '')!r}: blsm reads functional "
            "models and sequential models with a known input shape; build it with keras.Input first"
        )
    return model


def _shape(tensor: Any) -> Shape:
    # An unknown height or width is kept as 0: no block family has it in its domain, so that it shows as unmatched.
    return tuple(size or 0 for size in tensor.shape[1:])


class _Reader:
    """Translates node by node; `tensors` maps a Keras tensor to the operator that makes it."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.tensors: dict[int, int] = {}

    def append(
        self, kind: str, inputs: tuple[int, ...], attributes: Mapping[str, Any], shape: Shape, layer: str
    ) -> int:
        self.operators.append(Operator(kind, inputs, attributes, shape, layer))
        return len(self.operators) - 1

    def read(self, functional: Any) -> None:
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if not node.is_input:
                    self.read_node(node)

    def read_node(self, node: Any) -> None:
        operation = node.operation
        inputs = tuple(self.tensors[id(tensor)] for tensor in node.input_tensors)
        if hasattr(operation, "_nodes_by_depth") or hasattr(operation, "_functional"):
            self.read_nested(_functional(operation), inputs, node.output_tensors)
            return
        shapes = [_shape(tensor) for tensor in node.output_tensors]
        steps = _steps(operation, self.operators[inputs[0]].shape if inputs else (), shapes[0])
        index = inputs[0] if inputs else -1
        for kind, attributes in steps:
            index = self.append(kind, inputs, attributes, shapes[0], operation.name)
            inputs = (index,)
        for tensor in node.output_tensors:
            self.tensors[id(tensor)] = index

    def read_nested(self, functional: Any, inputs: tuple[int, ...], outputs: list[Any]) -> None:
        # The same model may be used twice: its inner tensors are bound anew at each use.
        for tensor, index in zip(functional.inputs, inputs, strict=True):
            self.tensors[id(tensor)] = index
        self.read(functional)
        inner = [self.tensors[id(tensor)] for tensor in functional.outputs]
        for tensor, index in zip(outputs, inner, strict=True):
            self.tensors[id(tensor)] = index


def _steps(operation: Any, input_shape: Shape, output_shape: Shape) -> list[_Step]:
    """The operators of one Keras layer or operation, in order; none where it costs nothing."""
    name = type(operation).__name__
    if type(operation).__module__.partition(".")[0] not in _PACKAGES:
        return [(name, {})]
    if name in _FREE or (name in ("Flatten", "Reshape") and _is_pixel(input_shape) and _is_pixel(output_shape)):
        return []
    if name in _FUNCTION_OPERATIONS:
        return _activation(_FUNCTION_OPERATIONS[name])
    steps = _LAYERS[name](operation) if name in _LAYERS else None
    # A layer that blsm knows but whose settings it does not model stays opaque, and so is reported as unmatched.
    return [(name, {})] if steps is None else steps


def _is_pixel(shape: Shape) -> bool:
    return all(size == 1 for size in shape[:-1])


def _activation(function: Any) -> list[_Step]:
    name = function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
    return [] if name == "linear" else [("activation", {"function": _FUNCTION_NAMES.get(name, name)})]


def _scalar(pair: Any) -> Any:
    pair = tuple(pair)
    return pair[0] if len(set(pair)) == 1 else pair


def _convolution(kind: str, layer: Any) -> list[_Step] | None:
    if layer.data_format != "channels_last":
        return None
    attributes: dict[str, Any] = {
        "kernel_size": _scalar(layer.kernel_size),
        "strides": _scalar(layer.strides),
        "padding": layer.padding,
        "use_bias": layer.use_bias,
    }
    for name in ("dilation_rate", "groups", "depth_multiplier"):
        value = getattr(layer, name, 1)
        value = value if isinstance(value, int) else _scalar(value)
        if value != 1:
            attributes[name] = value
    return [(kind, attributes), *_activation(layer.activation)]


def _conv(layer: Any) -> list[_Step] | None:
    return _convolution("conv", layer)


def _depthwise_conv(layer: Any) -> list[_Step] | None:
    return _convolution("depthwise_conv", layer)


def _dense(layer: Any) -> list[_Step]:
    return [("dense", {"use_bias": layer.use_bias}), *_activation(layer.activation)]


def _batch_norm(layer: Any) -> list[_Step] | None:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    return [("batch_norm", {})] if axis in (-1, layer.input_spec.ndim - 1) else None


def _relu(layer: Any) -> list[_Step] | None:
    # Keras keeps the values as floats, or as arrays after loading.
    slope, threshold, top = float(layer.negative_slope), float(layer.threshold), layer.max_value
    if slope or threshold or (top is not None and float(top) != 6):
        return None
    return _activation("relu" if top is None else "relu6")


def _softmax(layer: Any) -> list[_Step] | None:
    return _activation("softmax") if layer.axis == -1 else None


def _global_pool(function: str) -> Callable[[Any], list[_Step] | None]:
    def translate(layer: Any) -> list[_Step] | None:
        return [("global_pool", {"function": function})] if layer.data_format == "channels_last" else None

    return translate


def _pool(function: str) -> Callable[[Any], list[_Step] | None]:
    def translate(layer: Any) -> list[_Step] | None:
        size, strides = _scalar(layer.pool_size), _scalar(layer.strides)
        return [("pool", {"function": function, "pool_size": size, "strides": strides, "padding": layer.padding})]

    return translate


def _zero_padding(layer: Any) -> list[_Step]:
    return [("pad", {"padding": layer.padding})]


def _rescaling(layer: Any) -> list[_Step]:
    import numpy as np

    return [("rescale", {"mode": "scale_offset" if np.any(np.asarray(layer.offset)) else "scale"})]


def _normalization(layer: Any) -> list[_Step] | None:
    return None if layer.invert else [("rescale", {"mode": "normalization"})]


def _two_inputs(kind: str) -> Callable[[Any], list[_Step] | None]:
    return lambda layer: [(kind, {})]


_LAYERS: dict[str, Callable[[Any], list[_Step] | None]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise_conv,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "Activation": lambda layer: _activation(layer.activation),
    "ReLU": _relu,
    "Softmax": _softmax,
    "GlobalAveragePooling2D": _global_pool("average"),
    "GlobalMaxPooling2D": _global_pool("max"),
    "AveragePooling2D": _pool("average"),
    "MaxPooling2D": _pool("max"),
    "ZeroPadding2D": _zero_padding,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Add": _two_inputs("add"),
    "Multiply": _two_inputs("multiply"),
}
