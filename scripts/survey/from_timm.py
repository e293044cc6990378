"""timm: the smallest model of each family, at a small size of image."""

import numpy as np
import timm

from cases import Case
from torch_case import image, torch_case

ANY_SIZE = """
resnet10t 64
lcnet_035 64
repvgg_a0 64
convnext_atto 64
convnextv2_atto 64
dla46_c 64
efficientnet_lite0 64
efficientvit_b0 64
ghostnet_050 64
poolformer_s12 64
mobilenetv4_conv_small_035 64
mobilevit_xxs 64
mobilevitv2_050 64
regnety_002 64
repvit_m0_9 64
resnest14d 64
resnetv2_18 64
rexnet_100 128
selecsls42 64
seresnet18 64
skresnet18 64
starnet_s050 64
ese_vovnet19b_slim 64
"""
"""Convolutional and other networks: name and size of the image."""

TRANSFORMERS = """
vit_tiny_patch16_224 img_size=64 depth=3
swin_tiny_patch4_window7_224 img_size=56 depths=(2,2) embed_dim=48 num_heads=(2,4)
swinv2_tiny_window8_256 img_size=64 depths=(2,2) embed_dim=48 num_heads=(2,4)
mixer_s32_224 img_size=64
davit_tiny depths=(1,1,1,1)
pvt_v2_b0 depths=(1,1,1,1)
convit_tiny img_size=64 depth=3 local_up_to_layer=2
cait_xxs24_224 img_size=64 depth=3
beit_base_patch16_224 img_size=64 depth=2 embed_dim=96 num_heads=4
eva02_tiny_patch14_224 img_size=56 depth=3
samvit_base_patch16 img_size=64 depth=2 embed_dim=96 num_heads=4 global_attn_indexes=(1,)
sequencer2d_s layers=(1,1,1,1) img_size=64
hiera_tiny_224 img_size=(64,64) stages=(1,1,2,1)
mambaout_femto depths=(1,1,1,1)
edgenext_xx_small depths=(1,1,1,1)
swiftformer_xs layers=(1,1,1,1)
xcit_nano_12_p16_224 depth=3
deit_tiny_distilled_patch16_224 img_size=64 depth=3
tnt_s_patch16_224 img_size=64 depth=3
vit_relpos_small_patch16_224 img_size=64 depth=3
resmlp_12_224 img_size=64
fasternet_t0 depths=(1,1,1,1)
inception_next_atto depths=(1,1,1,1)
swinv2_cr_tiny_224 img_size=64 depths=(2,2) embed_dim=48 num_heads=(2,4)
"""
"""Transformers: name and what makes them small; the image is of the size given or of 64."""


def sized(line: str) -> Case:
    name, size = line.split()
    return torch_case(name, lambda: timm.create_model(name, num_classes=10), lambda: image(int(size)))


def shrunk(line: str) -> Case:
    name, *settings = line.split()
    chosen = {key: eval(value) for key, value in (setting.split("=") for setting in settings)}  # noqa: S307
    size = chosen.pop("size", None) or np.max(chosen.get("img_size", 64))
    return torch_case(name, lambda: timm.create_model(name, num_classes=10, **chosen), lambda: image(size))


def cases() -> list[Case]:
    return [sized(line) for line in ANY_SIZE.split("\n") if line] + [
        shrunk(line) for line in TRANSFORMERS.split("\n") if line
    ]
