"""segmentation-models-pytorch: every decoder on a small encoder."""

import segmentation_models_pytorch as smp
from torch import nn

from cases import Case
from torch_case import image, torch_case

ENCODERS = {
    "Unet": "resnet18",
    "UnetPlusPlus": "resnet18",
    "MAnet": "resnet18",
    "Linknet": "resnet18",
    "FPN": "resnet18",
    "PSPNet": "resnet18",
    "PAN": "resnet18",
    "DeepLabV3": "resnet18",
    "DeepLabV3Plus": "resnet18",
    "UPerNet": "resnet18",
    "Segformer": "mit_b0",
}


def build(decoder: str) -> nn.Module:
    return getattr(smp, decoder)(ENCODERS[decoder], encoder_weights=None, classes=3)


def cases() -> list[Case]:
    return [
        torch_case(f"{decoder}, {encoder}", lambda decoder=decoder: build(decoder))
        for decoder, encoder in ENCODERS.items()
    ]
