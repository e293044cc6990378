"""The networks of the measurements, and what each costs by arithmetic."""

import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from architectures import ResNet18
from bench_plan import PLANS


class Bert(nn.Module):
    """BERT-base with a classifier for two classes, from token ids to logits."""

    def __init__(self):
        super().__init__()
        self.net = transformers.BertForSequenceClassification(transformers.BertConfig())

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.net(input_ids=input_ids).logits


class Lstm(nn.Module):
    """Two recurrent layers and a linear one on the last step."""

    def __init__(self):
        super().__init__()
        self.net = nn.LSTM(128, 512, num_layers=2, batch_first=True)
        self.head = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x)[0][:, -1])


BUILD = {
    "resnet18_32": lambda: ResNet18(channels=3, width=64, pool=False),
    "resnet18_224": torchvision.models.resnet18,
    "resnet50_224": torchvision.models.resnet50,
    "vit_b16": torchvision.models.vit_b_16,
    "convnext_tiny": torchvision.models.convnext_tiny,
    "swin_tiny": torchvision.models.swin_t,
    "bert_base": Bert,
    "lstm": Lstm,
}
"""How to make each network. That for 32×32 has the stem that is usual for CIFAR-10: 3×3, without max-pooling."""


@torch.no_grad()
def network(name: str) -> nn.Module:
    """The network with its random weights, none of them zero, the same ones every time."""
    torch.manual_seed(0)
    model = BUILD[name]().eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.02 if parameter.dim() > 1 else 0.1)
    return model


def inputs(name: str, samples: int) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in PLANS[name].inputs(samples).items()}


def arithmetic(name: str) -> dict[str, float]:
    """Parameters, and floating-point operations of one sample's forward pass: those of products and convolutions.

    They are counted in operators that PyTorch does not fuse.
    """
    model = network(name)
    plain = sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False)
    with plain[0], plain[1], FlopCounterMode(display=False) as counter:
        model(*inputs(name, 1).values())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "forward_gflop": counter.get_total_flops() / 1e9}
