"""torchvision: classification, segmentation, detection without its post-processing."""

from torch import nn
from torchvision import models
from torchvision.models import detection, segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from cases import Case
from torch_case import image, torch_case

CLASSIFIERS = {
    "resnet18": 64,
    "squeezenet1_1": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mnasnet0_5": 64,
    "shufflenet_v2_x0_5": 64,
    "efficientnet_b0": 64,
    "regnet_x_400mf": 64,
    "googlenet": 96,
}
SEGMENTATION = ["lraspp_mobilenet_v3_large"]


def classifier(name: str) -> nn.Module:
    extra = {"init_weights": False} if name == "googlenet" else {}
    return models.get_model(name, weights=None, num_classes=10, **extra)


def vgg(norm: bool) -> nn.Module:
    """VGG11 with narrow layers: its own have 130 million weights. (TorchScript cannot enlarge small features.)"""
    widths = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    model = models.vgg.VGG(models.vgg.make_layers(widths, batch_norm=norm), num_classes=10, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier[0] = nn.Linear(64 * 2 * 2, 64)
    model.classifier[3] = nn.Linear(64, 64)
    model.classifier[6] = nn.Linear(64, 10)
    return model


def alexnet() -> nn.Module:
    """AlexNet with a narrow head."""
    model = models.alexnet(num_classes=10)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier[1] = nn.Linear(256, 64)
    model.classifier[4] = nn.Linear(64, 64)
    model.classifier[6] = nn.Linear(64, 10)
    return model


class Heads(nn.Module):
    """A detector as it is trained: from images to the outputs of its heads, before anchors and suppression."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x):
        features = self.backbone(x)
        return self.head(list(features.values()) if isinstance(features, dict) else features)


def detectors() -> list[Case]:
    none = {"weights": None, "weights_backbone": None}
    return [
        torch_case("resnet18 with feature pyramid", fpn, lambda: image(96)),
        torch_case(
            "ssdlite320_mobilenet_v3_large",
            lambda: Heads(detection.ssdlite320_mobilenet_v3_large(**none)),
            lambda: image(160),
        ),
    ]


def fpn() -> nn.Module:
    return resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5, norm_layer=nn.BatchNorm2d)


def segmenter(name: str) -> nn.Module:
    return getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5)


def cases() -> list[Case]:
    chosen = [
        torch_case(name, lambda name=name: classifier(name), lambda size=size: image(size))
        for name, size in CLASSIFIERS.items()
    ]
    chosen += [
        torch_case("alexnet (narrow)", alexnet),
        torch_case("vgg11 (narrow)", lambda: vgg(False)),
        torch_case("vgg11_bn (narrow)", lambda: vgg(True)),
        torch_case(
            "vit_b_32 (narrow)",
            lambda: models.VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=10),
            lambda: image(32),
        ),
    ]
    chosen += [torch_case(name, lambda name=name: segmenter(name)) for name in SEGMENTATION]
    return chosen + detectors()
