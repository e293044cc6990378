"""transformers: tiny configurations of well-known architectures."""

import torch
import transformers as hf
from torch import nn

from cases import SAMPLES, Case
from torch_case import Inputs, torch_case

WORDS, LENGTH = 50, 7
TEXT = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"intermediate_size": 48, "max_position_embeddings": 32}
PICTURE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
PICTURE |= {"image_size": 32, "patch_size": 8}
SPEECH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SPEECH |= {"conv_dim": (16, 16), "conv_stride": (4, 4), "conv_kernel": (8, 4), "num_feat_extract_layers": 2}
SPEECH |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "vocab_size": 20}
SEQUENCE = {"vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
SEQUENCE |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
GROUPED = {"num_key_value_heads": 2, "pad_token_id": 0}


def text() -> Inputs:
    """Token ids, the last sample padded."""
    mask = torch.ones(SAMPLES, LENGTH, dtype=torch.int64)
    mask[-1, -2:] = 0
    return {"input_ids": torch.randint(3, WORDS, (SAMPLES, LENGTH)), "attention_mask": mask}


def ids() -> Inputs:
    return {"input_ids": text()["input_ids"]}


def picture() -> Inputs:
    return {"pixel_values": torch.randn(SAMPLES, 3, 32, 32)}


def sound() -> Inputs:
    return {"input_values": torch.randn(SAMPLES, 400)}


def spectrum() -> Inputs:
    return {"input_features": torch.randn(SAMPLES, 20, 40)}


def both() -> Inputs:
    return text() | picture()


def last(outputs):
    return outputs.last_hidden_state


def logits(outputs):
    return outputs.logits


def towers(outputs):
    """Of CLIP. Its embeddings are of length one: the gradient of their norm is zero."""
    return outputs.text_model_output.pooler_output, outputs.vision_model_output.pooler_output


def case(name: str, model: str, config: hf.PretrainedConfig, inputs=text, pick=last, encoder=False) -> Case:
    def build() -> nn.Module:
        config.use_cache = False
        config.return_dict = True
        whole = getattr(hf, model)(config)
        return whole.encoder if encoder else whole

    return torch_case(name, build, inputs, pick, keywords=True)


def t5() -> hf.PretrainedConfig:
    return hf.T5Config(vocab_size=WORDS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)


def clip() -> hf.PretrainedConfig:
    return hf.CLIPConfig(text_config=TEXT | {"eos_token_id": 2}, vision_config=PICTURE, projection_dim=16)


def whisper() -> hf.PretrainedConfig:
    return hf.WhisperConfig(**SEQUENCE, num_mel_bins=20, max_source_positions=20, max_target_positions=20, pad_token_id=0)


def swin() -> hf.PretrainedConfig:
    return hf.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)


def segformer() -> hf.PretrainedConfig:
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32], "decoder_hidden_size": 16}
    return hf.SegformerConfig(**sizes, num_attention_heads=[1, 2, 2, 4], num_labels=4)


def cases() -> list[Case]:
    head = {"num_labels": 3}
    return [
        case("BERT, classification", "BertForSequenceClassification", hf.BertConfig(**TEXT, **head), pick=logits),
        case("DistilBERT", "DistilBertModel", hf.DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=32)),
        case("RoBERTa", "RobertaModel", hf.RobertaConfig(**TEXT, pad_token_id=1)),
        case("DeBERTa", "DebertaModel", hf.DebertaConfig(**TEXT, relative_attention=True, pos_att_type=["c2p", "p2c"])),
        case("DeBERTa v2", "DebertaV2Model", hf.DebertaV2Config(**TEXT, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8)),
        case("ALBERT", "AlbertModel", hf.AlbertConfig(**TEXT, embedding_size=16)),
        case("ELECTRA, classification", "ElectraForSequenceClassification", hf.ElectraConfig(**TEXT, **head, embedding_size=16), pick=logits),
        case("MobileBERT", "MobileBertModel", hf.MobileBertConfig(**TEXT, intra_bottleneck_size=16, embedding_size=16)),
        case("MPNet", "MPNetModel", hf.MPNetConfig(**TEXT)),
        case("ModernBERT", "ModernBertModel", hf.ModernBertConfig(**TEXT, pad_token_id=0, eos_token_id=1, bos_token_id=2, cls_token_id=1, sep_token_id=2)),
        case("XLM-RoBERTa, tokens", "XLMRobertaForTokenClassification", hf.XLMRobertaConfig(**TEXT, **head, pad_token_id=1), pick=logits),
        case("GPT-2", "GPT2Model", hf.GPT2Config(vocab_size=WORDS, n_positions=32, n_embd=32, n_layer=2, n_head=4)),
        case("GPT-NeoX", "GPTNeoXModel", hf.GPTNeoXConfig(**TEXT)),
        case("OPT", "OPTModel", hf.OPTConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48, max_position_embeddings=32, word_embed_proj_dim=32)),
        case("Llama", "LlamaModel", hf.LlamaConfig(**TEXT, **GROUPED)),
        case("Mistral", "MistralModel", hf.MistralConfig(**TEXT, **GROUPED)),
        case("Qwen2", "Qwen2Model", hf.Qwen2Config(**TEXT, **GROUPED)),
        case("Qwen3", "Qwen3Model", hf.Qwen3Config(**TEXT, **GROUPED, head_dim=8)),
        case("Gemma", "GemmaModel", hf.GemmaConfig(**TEXT, **GROUPED, head_dim=8)),
        case("Phi", "PhiModel", hf.PhiConfig(**TEXT)),
        case("T5 encoder", "T5EncoderModel", t5()),
        case("BART encoder", "BartModel", hf.BartConfig(**SEQUENCE, max_position_embeddings=32), encoder=True),
        case("ViT, classification", "ViTForImageClassification", hf.ViTConfig(**PICTURE, **head), picture, logits),
        case("DeiT", "DeiTModel", hf.DeiTConfig(**PICTURE), picture),
        case("BEiT", "BeitModel", hf.BeitConfig(**PICTURE), picture),
        case("DINOv2", "Dinov2Model", hf.Dinov2Config(**PICTURE), picture),
        case("Swin", "SwinModel", swin(), picture),
        case("SegFormer", "SegformerForSemanticSegmentation", segformer(), lambda: {"pixel_values": torch.randn(SAMPLES, 3, 64, 64)}, logits),
        case("ConvNeXt", "ConvNextModel", hf.ConvNextConfig(hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 2, 1]), picture),
        case("CLIP", "CLIPModel", clip(), both, towers),
        case("Whisper encoder", "WhisperModel", whisper(), spectrum, encoder=True),
        case("wav2vec 2", "Wav2Vec2ForCTC", hf.Wav2Vec2Config(**SPEECH), sound, logits),
        case("HuBERT", "HubertModel", hf.HubertConfig(**SPEECH), sound),
    ]
