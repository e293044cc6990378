"""JAX: flax (nnx) modules, by jax2onnx. (What jax2tf makes today is one operator that tf2onnx does not know.)"""

from pathlib import Path

import numpy as np

from cases import SAMPLES, Case
from from_keras import save


def mlp(nnx, rngs):
    return nnx.Sequential(nnx.Linear(8, 16, rngs=rngs), nnx.gelu, nnx.LayerNorm(16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs))


def cnn(nnx, rngs):
    import functools

    pool = functools.partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
    most = functools.partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
    return nnx.Sequential(
        *[nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.relu, pool, nnx.GroupNorm(8, num_groups=4, rngs=rngs)],
        *[nnx.Conv(8, 6, (3, 3), rngs=rngs), nnx.silu, most, lambda x: x.reshape(x.shape[0], -1)],
        nnx.Linear(96, 5, rngs=rngs),
    )


def transformer(nnx, rngs):
    class Block(nnx.Module):
        def __init__(self):
            self.first, self.second = nnx.LayerNorm(8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, deterministic=True, rngs=rngs)
            self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.first(x))
            return x + self.down(nnx.gelu(self.up(self.second(x))))

    return Block()


def gated(nnx, rngs):
    class Steps(nnx.Module):
        """A gated recurrent cell, unrolled by hand."""

        def __init__(self):
            self.cell = nnx.GRUCell(4, 7, rngs=rngs)
            self.start = nnx.Linear(4, 7, rngs=rngs)

        def __call__(self, x):
            state = self.start(x[:, 0])
            for step in range(1, 5):
                state, _ = self.cell(state, x[:, step])
            return state

    return Steps()


MODELS = {
    "MLP": (mlp, (8,)),
    "CNN": (cnn, (16, 16, 3)),
    "transformer": (transformer, (6, 8)),
    "GRU, unrolled": (gated, (5, 4)),
}


def case(name: str, build, shape: tuple[int, ...]) -> Case:
    def export(_: str, folder: Path) -> None:
        import jax
        import onnx
        from flax import nnx
        from jax2onnx import to_onnx

        model = build(nnx, nnx.Rngs(0))
        random = np.random.default_rng(0)
        state = nnx.state(model, nnx.Param)
        state = jax.tree.map(lambda value: value + 0.05 * random.standard_normal(value.shape).astype(np.float32), state)
        nnx.update(model, state)
        data = random.standard_normal((SAMPLES, *shape), np.float32)
        onnx.save(to_onnx(model, [("B", *shape)], opset=21), folder / "model.onnx")
        save(folder, data)

    return Case(name, ("jax2onnx",), export)


def cases() -> list[Case]:
    return [case(name, build, shape) for name, (build, shape) in MODELS.items()]
