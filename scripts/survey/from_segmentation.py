"""segmentation-models-pytorch: decoders on a small encoder."""

import segmentation_models_pytorch as smp
from torch import nn

from cases import Case
from torch_case import image, torch_case

ENCODERS = {
    "Unet": "resnet18",
    "FPN": "resnet18",
    "PSPNet": "resnet18",
    "DeepLabV3Plus": "resnet18",
}
SIZES = {"PSPNet": 96}
"""TorchScript pools to sizes that divide the features' alone."""


def build(decoder: str) -> nn.Module:
    return getattr(smp, decoder)(ENCODERS[decoder], encoder_weights=None, classes=3)


def cases() -> list[Case]:
    return [
        torch_case(f"{decoder}, {encoder}", lambda decoder=decoder: build(decoder), lambda decoder=decoder: image(SIZES.get(decoder, 64)))
        for decoder, encoder in ENCODERS.items()
    ]
