"""Lists the keys that the peers know into peer_keys.json: transformers' configs of our families and its
GenerationConfig, PEFT's LoraConfig and IA3Config, and the metadata keys of gguf-py that a file of our architectures can have.

    python make_peer_keys.py        # transformers 5.23.0, peft 0.21.2, gguf 0.19.0
"""
import dataclasses, json, pathlib
import gguf, peft, transformers
from gguf.constants import Keys
from transformers import CONFIG_MAPPING, GenerationConfig, PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters

FAMILIES = ["llama", "mistral", "ministral", "qwen2", "qwen3", "granite", "smollm3", "olmo2", "olmo3", "phi3",
            "gemma2", "gemma3_text", "gpt_neox", "qwen3_moe", "olmoe", "mixtral", "qwen3_5_text", "gpt_oss",
            "qwen3_next", "gemma", "qwen3_5_moe_text"]


def fields(cls):
    return sorted({f.name for f in dataclasses.fields(cls)} | set(cls().to_dict()))


def gguf_keys(*classes):
    return sorted(v for c in classes for n, v in vars(c).items() if isinstance(v, str) and not n.startswith("_"))


# Groups of other architectures: state space models, vision, and keys that name an architecture's own parts.
OTHERS = ["altup", "activation_sparsity", "decoder_", "embedding_length_", "features_length", "_feat_", "swin_norm",
          "rescale_every", "time_", "token_shift", "n_deepstack", "swiglu", "router_", "expert", "moe_", "mla", "_swa",
          "lora_rank", "indexer", "group_norm", "layer_norm_epsilon", "relative_buckets", "dimension_sections",
          "full_attention_interval"]
llm = gguf_keys(Keys.LLM, Keys.Attention, Keys.Rope)
result = {
    "versions": {"transformers": transformers.__version__, "peft": peft.__version__, "gguf": "0.19.0"},
    "config": {"base": fields(PreTrainedConfig), **{name: fields(CONFIG_MAPPING[name]) for name in FAMILIES}},
    "rope": sorted(RopeParameters.__annotations__),
    "generation": sorted(GenerationConfig().to_dict()),
    "adapter": sorted(f.name for f in dataclasses.fields(peft.LoraConfig)),
    "adapter_ia3": sorted(f.name for f in dataclasses.fields(peft.IA3Config)),
    "adapter_tokens": sorted(f.name for f in dataclasses.fields(peft.TrainableTokensConfig)),
    "adapter_vera": sorted(f.name for f in dataclasses.fields(peft.VeraConfig)),
    "gguf": [k for k in llm if not any(o in k for o in OTHERS)] + gguf_keys(Keys.General, Keys.Tokenizer, Keys.Split),
    "gguf_of_other_architectures": [k for k in llm if any(o in k for o in OTHERS)],
}
pathlib.Path(__file__).with_name("peer_keys.json").write_text(json.dumps(result, indent=1) + "\n")
