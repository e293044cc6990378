"""torch.nn: recurrent networks and transformer layers, batch first or not."""

import torch
from torch import Tensor, nn

from cases import SAMPLES, Case
from torch_case import Inputs, torch_case

STEPS, FEATURES, HIDDEN = 5, 6, 8


class Recurrent(nn.Module):
    """A recurrent network and a linear layer on its last step."""

    def __init__(self, kind: str, bidirectional: bool, batch_first: bool, **settings):
        super().__init__()
        self.batch_first = batch_first
        self.net = getattr(nn, kind)(
            FEATURES, HIDDEN, batch_first=batch_first, bidirectional=bidirectional, **settings
        )
        self.head = nn.Linear(HIDDEN * (1 + bidirectional), 4)

    def forward(self, x: Tensor) -> Tensor:
        if not self.batch_first:
            x = x.transpose(0, 1)
        y = self.net(x)[0]
        return self.head(y[:, -1] if self.batch_first else y[-1])


def sequence() -> Inputs:
    return {"input": torch.randn(SAMPLES, STEPS, FEATURES)}


def tokens() -> Inputs:
    return {"input": torch.randint(0, 20, (SAMPLES, STEPS))}


class Tagger(nn.Module):
    """Embedding, bidirectional LSTM, a label for each token."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, FEATURES)
        self.net = nn.LSTM(FEATURES, HIDDEN, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(self.embedding(x))[0])


def cases() -> list[Case]:
    chosen = []
    for kind in ["LSTM", "GRU", "RNN"]:
        for both in [False, True]:
            for first in [False, True]:
                words = [kind, *["bidirectional"] * both, "batch first" if first else "steps first"]
                chosen.append(torch_case(", ".join(words), lambda s=(kind, both, first): Recurrent(*s), sequence))
    layer = nn.TransformerEncoderLayer
    return chosen + [
        torch_case("RNN, relu", lambda: Recurrent("RNN", False, True, nonlinearity="relu"), sequence),
        torch_case("LSTM, two layers", lambda: Recurrent("LSTM", False, True, num_layers=2), sequence),
        torch_case("LSTM tagger, two layers", Tagger, tokens),
        torch_case("TransformerEncoderLayer", lambda: layer(FEATURES, 2, 12, batch_first=True), sequence),
        torch_case("TransformerEncoderLayer, norm first", lambda: layer(FEATURES, 3, 12, batch_first=True, norm_first=True, activation="gelu"), sequence),
    ]
