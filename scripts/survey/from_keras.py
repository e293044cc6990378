"""Keras 3: `model.export(format="onnx")`, by tf2onnx."""

import os
from pathlib import Path

import numpy as np

from cases import SAMPLES, Case, write_reference

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
BACKENDS = ("keras on tensorflow",)


def gelu(k):
    """By tanh: tf2onnx does not know the operator of the other."""
    return lambda x: k.activations.gelu(x, approximate=True)


def mlp(k):
    return [k.Input((8,)), k.layers.Dense(16, "relu"), k.layers.Dense(12, "tanh"), k.layers.Dense(4, "softmax")]


def cnn(k):
    return [
        *[k.Input((16, 16, 3)), k.layers.Conv2D(8, 3, activation="relu"), k.layers.BatchNormalization()],
        *[k.layers.MaxPooling2D(), k.layers.SeparableConv2D(12, 3, padding="same", activation="swish")],
        *[k.layers.AveragePooling2D(2), k.layers.Flatten(), k.layers.Dropout(0.5), k.layers.Dense(5)],
    ]


def upsampling(k):
    return [
        *[k.Input((8, 8, 2)), k.layers.Conv2D(6, 3, strides=2, padding="same", activation="leaky_relu")],
        *[k.layers.Conv2DTranspose(5, 3, strides=2, padding="same", activation="elu"), k.layers.UpSampling2D()],
        *[k.layers.GroupNormalization(5), k.layers.Conv2D(2, 1, activation="sigmoid")],
    ]


def text_cnn(k):
    return [
        *[k.Input((9,), dtype="int32"), k.layers.Embedding(20, 6), k.layers.Conv1D(8, 3, activation=gelu(k))],
        *[k.layers.GlobalMaxPooling1D(), k.layers.Dense(3, "softmax")],
    ]


def recurrent(kind, both=False):
    def build(k):
        layer = getattr(k.layers, kind)(7)
        return [k.Input((5, 4)), k.layers.Bidirectional(layer) if both else layer, k.layers.Dense(3)]

    return build


def transformer(k):
    x = inputs = k.Input((6, 8))
    y = k.layers.LayerNormalization()(x)
    x = x + k.layers.MultiHeadAttention(2, 4)(y, y)
    y = k.layers.Dense(16, gelu(k))(k.layers.LayerNormalization()(x))
    x = x + k.layers.Dense(8)(y)
    return k.Model(inputs, k.layers.Dense(3)(k.layers.GlobalAveragePooling1D()(x)))


def application(name, size=64):
    def build(k):
        return getattr(k.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)

    return build


MODELS = {
    "MLP": mlp,
    "CNN": cnn,
    "upsampling": upsampling,
    "text CNN": text_cnn,
    "LSTM": recurrent("LSTM"),
    "GRU": recurrent("GRU"),
    "SimpleRNN": recurrent("SimpleRNN"),
    "LSTM, bidirectional": recurrent("LSTM", both=True),
    "transformer": transformer,
    "MobileNetV2": application("MobileNetV2"),
    "MobileNetV3Small": application("MobileNetV3Small"),
    "EfficientNetB0": application("EfficientNetB0"),
}


def make(build):
    """The model, and samples."""
    import keras

    keras.utils.set_random_seed(0)
    model = build(keras)
    model = chained(keras, model) if isinstance(model, list) else model
    random = np.random.default_rng(0)
    for weight in model.weights:
        value = weight.numpy() if hasattr(weight, "numpy") else np.asarray(weight)
        if value.dtype.kind == "f":
            noise = random.standard_normal(value.shape) * (0.02 if value.ndim > 1 else 0.1)
            value = np.abs(value + noise) if "variance" in weight.name else value + noise
            weight.assign(value.astype(np.float32))
    shape = (SAMPLES, *model.inputs[0].shape[1:])
    whole = "int" in str(model.inputs[0].dtype)
    return model, random.integers(0, 20, shape).astype(np.int32) if whole else random.standard_normal(shape, np.float32)


def case(name, build) -> Case:
    def export(_: str, folder: Path) -> None:
        model, data = make(build)
        model(data)
        model.export(folder / "model.onnx", format="onnx", verbose=False)
        save(folder, data)

    def refer(folder: Path) -> None:
        import keras
        import tensorflow

        given = make(build)[0].get_weights()
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        model, data = make(build)
        model.set_weights(given)
        weights = model.trainable_weights
        sums = [np.zeros(weight.shape) for weight in weights]
        for sample in data:
            with tensorflow.GradientTape() as tape:
                value = tensorflow.reduce_sum(tensorflow.square(model(sample[None], training=False)))
            for total, gradient in zip(sums, tape.gradient(value, [weight.value for weight in weights])):
                if gradient is not None:
                    total += np.abs(tensorflow.convert_to_tensor(gradient).numpy())
        names = [weight.path for weight in weights]
        values = {name: weight.numpy() for name, weight in zip(names, weights)}
        write_reference(folder / "reference.npz", values, dict(zip(names, sums)), dict(foldings(keras, model)))

    return Case(name, BACKENDS, export, refer)


def foldings(keras, model):
    """For each convolution with batch normalisation right behind it: the factor for each channel (shaped for the
    kernel), and the bias after folding."""
    for norm in model.layers:
        layer = norm.input._keras_history.operation if isinstance(norm, keras.layers.BatchNormalization) else None
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
            bias = np.asarray(layer.bias) if layer.use_bias else 0
            deep = isinstance(layer, keras.layers.DepthwiseConv2D)
            yield f"scale/{layer.kernel.path}", scale.reshape((1, 1, -1, 1) if deep else (1, 1, 1, -1))
            yield f"shift/{layer.kernel.path}/{norm.beta.path}", (bias - np.asarray(norm.moving_mean)) * scale + np.asarray(norm.beta)


def chained(keras, layers: list):
    """`keras.Sequential` cannot be exported with every backend."""
    inputs, value = layers[0], layers[0]
    for layer in layers[1:]:
        value = layer(value)
    return keras.Model(inputs, value)


def save(folder: Path, data: np.ndarray) -> None:
    """The data under the name of the only input, once those that nothing reads, which tf2onnx leaves, are gone."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    known = {each.name for each in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input}
    for unread in [each for each in model.graph.input if each.name not in read]:
        model.graph.input.remove(unread)
        onnx.save(model, folder / "model.onnx")
    (name,) = (each.name for each in model.graph.input if each.name not in known)
    np.savez(folder / "data.npz", **{name: data})


def cases() -> list[Case]:
    import keras  # noqa: F401  (once, before the processes of the cases begin)

    return [case(name, build) for name, build in MODELS.items()]
