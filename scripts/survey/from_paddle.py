"""PaddlePaddle: its own vision models and small networks, by paddle2onnx."""

from pathlib import Path

import numpy as np

from cases import SAMPLES, Case, write_reference


def mlp(p):
    return p.nn.Sequential(p.nn.Linear(8, 16), p.nn.GELU(), p.nn.LayerNorm(16), p.nn.Linear(16, 4), p.nn.Softmax())


def cnn(p):
    n = p.nn
    return n.Sequential(
        *[n.Conv2D(3, 8, 3, padding=1), n.BatchNorm2D(8), n.Hardswish(), n.MaxPool2D(2), n.Conv2DTranspose(8, 6, 2, 2)],
        *[n.PReLU(6), n.Upsample(size=[32, 32], mode="bilinear"), n.AdaptiveAvgPool2D(2), n.Flatten(), n.Linear(24, 5)],
    )


def transformer(p):
    return p.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)


def lstm(p):
    class Last(p.nn.Layer):
        def __init__(self):
            super().__init__()
            self.net, self.head = p.nn.LSTM(4, 7), p.nn.Linear(7, 3)

        def forward(self, x):
            return self.head(self.net(x)[0][:, -1])

    return Last()


def vision(name):
    return lambda p: getattr(p.vision.models, name)(pretrained=False, num_classes=10)


MODELS = {
    "MLP": (mlp, (8,)),
    "CNN": (cnn, (3, 16, 16)),
    "transformer": (transformer, (6, 8)),
    "LSTM": (lstm, (5, 4)),
    "LeNet": (lambda p: p.vision.models.LeNet(10), (1, 28, 28)),
    "resnet18": (vision("resnet18"), (3, 64, 64)),
    "mobilenet_v2": (vision("mobilenet_v2"), (3, 64, 64)),
    "mobilenet_v3_small": (vision("mobilenet_v3_small"), (3, 64, 64)),
    "shufflenet_v2_x0_25": (vision("shufflenet_v2_x0_25"), (3, 64, 64)),
    "squeezenet1_1": (vision("squeezenet1_1"), (3, 64, 64)),
}


def make(build, shape: tuple[int, ...]):
    """The model, and samples."""
    import paddle

    paddle.seed(0)
    model = build(paddle)
    model.eval()
    random = np.random.default_rng(0)
    for parameter in model.parameters():
        noise = random.standard_normal(parameter.shape) * (0.02 if parameter.ndim > 1 else 0.1)
        parameter.set_value(parameter.numpy() + noise.astype(np.float32))
    return model, random.standard_normal((SAMPLES, *shape), np.float32)


def case(name: str, build, shape: tuple[int, ...]) -> Case:
    def export(_: str, folder: Path) -> None:
        import paddle

        model, data = make(build, shape)
        spec = paddle.static.InputSpec([None, *shape], "float32", "input")
        paddle.onnx.export(model, str(folder / "model"), input_spec=[spec], opset_version=17)
        np.savez(folder / "data.npz", input=data)

    def refer(folder: Path) -> None:
        import paddle

        model, data = make(build, shape)
        try:
            model.to(dtype="float64")
            data = data.astype(np.float64)
        except RuntimeError:  # a type is written into the model
            model, data = make(build, shape)
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.LSTM):
                layer.train()  # it has no gradient otherwise; there is no dropout
        names = [name for name, each in model.named_parameters() if not each.stop_gradient]
        parameters = [each for each in model.parameters() if not each.stop_gradient]
        sums = [np.zeros(each.shape) for each in parameters]
        for sample in data:
            value = model(paddle.to_tensor(sample[None])).square().sum()
            for total, gradient in zip(sums, paddle.grad(value, parameters, allow_unused=True)):
                if gradient is not None:
                    total += np.abs(gradient.numpy())
        values = {name: each.numpy() for name, each in zip(names, parameters)}
        write_reference(folder / "reference.npz", values, dict(zip(names, sums)))

    return Case(name, ("paddle2onnx",), export, refer)


def cases() -> list[Case]:
    return [case(name, build, shape) for name, (build, shape) in MODELS.items()]
