"""Models of PyTorch after ONNX Runtime's optimisers: fused operators of the domain com.microsoft."""

from pathlib import Path

import onnxruntime

from cases import Case
from from_torchvision import classifier
from from_transformers import PICTURE, TEXT, hf, last, picture, text
from torch_case import torch_case

FUSED, EXTENDED = "onnxruntime.transformers", "onnxruntime session, extended"


def optimised(name: str, model: Case, kind: str | None = None) -> Case:
    """`kind` names the pattern that the optimiser for transformers looks for."""

    def export(exporter: str, folder: Path) -> None:
        model.export("TorchScript", folder)
        path = folder / "model.onnx"
        if exporter == FUSED:
            from onnxruntime.transformers import optimizer

            optimizer.optimize_model(str(path), kind, num_heads=4, hidden_size=32).save_model_to_file(str(path))
        else:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.optimized_model_filepath = str(folder / "optimised.onnx")
            onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
            (folder / "optimised.onnx").rename(path)

    return Case(name, (FUSED, EXTENDED) if kind else (EXTENDED,), export, model.refer)


def transformer(model: str, config: hf.PretrainedConfig, inputs) -> Case:
    def build():
        config.use_cache = False
        return getattr(hf, model)._from_config(config, attn_implementation="eager")

    return torch_case(model, build, inputs, last, keywords=True)


def cases() -> list[Case]:
    gpt2 = hf.GPT2Config(vocab_size=50, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    return [
        optimised("BERT", transformer("BertModel", hf.BertConfig(**TEXT), text), "bert"),
        optimised("RoBERTa", transformer("RobertaModel", hf.RobertaConfig(**TEXT, pad_token_id=1), text), "bert"),
        optimised("GPT-2", transformer("GPT2Model", gpt2, text), "gpt2"),
        optimised("ViT", transformer("ViTModel", hf.ViTConfig(**PICTURE), picture), "vit"),
        optimised("resnet18", torch_case("resnet18", lambda: classifier("resnet18"))),
        optimised("mobilenet_v3_small", torch_case("mobilenet_v3_small", lambda: classifier("mobilenet_v3_small"))),
    ]
