"""PaddlePaddle: its own vision models and small networks, by paddle2onnx."""

from pathlib import Path

import numpy as np

from cases import SAMPLES, Case


def mlp(p):
    return p.nn.Sequential(p.nn.Linear(8, 16), p.nn.GELU(), p.nn.LayerNorm(16), p.nn.Linear(16, 4), p.nn.Softmax())


def cnn(p):
    n = p.nn
    return n.Sequential(
        *[n.Conv2D(3, 8, 3, padding=1), n.BatchNorm2D(8), n.Hardswish(), n.MaxPool2D(2), n.Conv2DTranspose(8, 6, 2, 2)],
        *[n.PReLU(6), n.Upsample(scale_factor=2, mode="bilinear"), n.AdaptiveAvgPool2D(2), n.Flatten(), n.Linear(24, 5)],
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


def case(name: str, build, shape: tuple[int, ...]) -> Case:
    def export(_: str, folder: Path) -> None:
        import paddle

        paddle.seed(0)
        model = build(paddle)
        model.eval()
        random = np.random.default_rng(0)
        for parameter in model.parameters():
            noise = random.standard_normal(parameter.shape) * (0.02 if parameter.ndim > 1 else 0.1)
            parameter.set_value(parameter.numpy() + noise.astype(np.float32))
        spec = paddle.static.InputSpec([None, *shape], "float32", "input")
        paddle.onnx.export(model, str(folder / "model"), input_spec=[spec], opset_version=17)
        np.savez(folder / "data.npz", input=random.standard_normal((SAMPLES, *shape), np.float32))

    return Case(name, ("paddle2onnx",), export)


def cases() -> list[Case]:
    return [case(name, build, shape) for name, (build, shape) in MODELS.items()]
