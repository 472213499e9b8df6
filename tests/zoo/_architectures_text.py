"""Language models: encoders and decoders."""

from __future__ import annotations

from zoo._architecture import NO_CACHE, TEXT, Architecture, Settings, ids

ENCODER, DECODER = "text encoder", "decoder"

SMALL = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64, "use_cache": False,
}  # fmt: skip
GQA = SMALL | {"num_key_value_heads": 2}


def encoder(
    name: str, model: str, settings: Settings, mask: bool = True, options: Settings | None = None
) -> Architecture:
    """A classifier of texts."""
    return Architecture(name, ENCODER, model, settings, ids(mask=mask), options=options or {})


def decoder(name: str, model: str, settings: Settings, mask: bool = False) -> Architecture:
    """A network that predicts the next token, without a cache."""
    return Architecture(name, DECODER, model, settings, ids(mask=mask), options=NO_CACHE)


# fmt: off
ROWS = (
    encoder("bert", "BertForSequenceClassification", TEXT),
    encoder("roberta", "RobertaForSequenceClassification", TEXT),
    encoder("distilbert", "DistilBertForSequenceClassification", {"vocab_size": 99, "dim": 32,
        "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64,
        "num_labels": 5}),
    encoder("albert", "AlbertForSequenceClassification", TEXT | {"embedding_size": 16}),
    encoder("electra", "ElectraForSequenceClassification", TEXT | {"embedding_size": 16}),
    encoder("deberta_v2", "DebertaV2ForSequenceClassification",
        TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
        "max_relative_positions": 16}),
    encoder("mobilebert", "MobileBertForSequenceClassification", TEXT | {"embedding_size": 16,
        "intra_bottleneck_size": 16}),
    encoder("squeezebert", "SqueezeBertForSequenceClassification",
        TEXT | {"embedding_size": 32}),
    encoder("fnet", "FNetForSequenceClassification", TEXT | {"tpu_short_seq_length": 32,
        "use_tpu_fourier_optimizations": False}, mask=False),
    encoder("funnel", "FunnelForSequenceClassification", {"vocab_size": 99, "block_sizes": [1, 1],
        "num_decoder_layers": 1, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48,
        "num_labels": 5}),
    encoder("modernbert", "ModernBertForSequenceClassification",
        TEXT | {"global_attn_every_n_layers": 2, "local_attention": 8, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}),
    encoder("xlnet", "XLNetForSequenceClassification", {"vocab_size": 99, "d_model": 32,
        "n_layer": 2, "n_head": 4, "d_inner": 48, "num_labels": 5}, mask=False,
        options={"use_mems": False}),
    encoder("mpnet", "MPNetForSequenceClassification", TEXT),
    encoder("convbert", "ConvBertForSequenceClassification", TEXT | {"embedding_size": 32,
        "head_ratio": 2, "conv_kernel_size": 3}),
    encoder("roformer", "RoFormerForSequenceClassification", TEXT | {"embedding_size": 32}),
    Architecture("clip_text", ENCODER, "CLIPTextModelWithProjection", TEXT | {"projection_dim": 24,
        "eos_token_id": 98, "bos_token_id": 0, "pad_token_id": 1}, ids(), ("text_embeds",)),
    Architecture("siglip_text", ENCODER, "SiglipTextModel", TEXT | {"eos_token_id": 98,
        "bos_token_id": 0, "pad_token_id": 1}, ids(), ("pooler_output",)),
    decoder("gpt2", "GPT2LMHeadModel", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4,
        "n_positions": 64}, mask=True),
    decoder("gpt_neo", "GPTNeoForCausalLM", {"vocab_size": 99, "hidden_size": 32, "num_layers": 2,
        "attention_types": [[["global", "local"], 1]], "num_heads": 4, "window_size": 8,
        "max_position_embeddings": 64}),
    decoder("gpt_neox", "GPTNeoXForCausalLM", SMALL),
    decoder("gptj", "GPTJForCausalLM", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4,
        "n_positions": 64, "rotary_dim": 4}),
    decoder("opt", "OPTForCausalLM", {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "ffn_dim": 48, "max_position_embeddings": 64,
        "word_embed_proj_dim": 16}, mask=True),
    decoder("llama", "LlamaForCausalLM", GQA, mask=True),
    decoder("mistral", "MistralForCausalLM", GQA | {"sliding_window": 4}),
    decoder("mixtral", "MixtralForCausalLM", GQA | {"num_local_experts": 4,
        "num_experts_per_tok": 2, "experts_implementation": "batched_mm"}),
    decoder("qwen2", "Qwen2ForCausalLM", GQA),
    decoder("qwen3", "Qwen3ForCausalLM", GQA | {"head_dim": 8}),
    decoder("gemma", "GemmaForCausalLM", GQA | {"num_key_value_heads": 1, "head_dim": 8}),
    decoder("gemma2", "Gemma2ForCausalLM", GQA | {"head_dim": 8, "sliding_window": 4}),
    decoder("phi", "PhiForCausalLM", SMALL),
    decoder("phi3", "Phi3ForCausalLM", GQA | {"pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2}),
    decoder("falcon", "FalconForCausalLM", {"vocab_size": 99, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "multi_query": True,
        "max_position_embeddings": 64}),
    decoder("bloom", "BloomForCausalLM", {"vocab_size": 99, "hidden_size": 32, "n_layer": 2,
        "n_head": 4}, mask=True),
    decoder("mpt", "MptForCausalLM", {"vocab_size": 99, "d_model": 32, "n_layers": 2,
        "n_heads": 4, "max_seq_len": 64}),
    decoder("starcoder2", "Starcoder2ForCausalLM", GQA),
    decoder("stablelm", "StableLmForCausalLM", GQA),
    decoder("cohere", "CohereForCausalLM", GQA),
    decoder("olmo2", "Olmo2ForCausalLM", GQA),
    decoder("gpt_bigcode", "GPTBigCodeForCausalLM", {"vocab_size": 99, "n_embd": 32, "n_layer": 2,
        "n_head": 4, "n_positions": 64}),
    decoder("codegen", "CodeGenForCausalLM", {"vocab_size": 99, "n_embd": 32, "n_layer": 2,
        "n_head": 4, "n_positions": 64, "rotary_dim": 4}),
    decoder("mamba", "MambaForCausalLM", {"vocab_size": 99, "hidden_size": 32,
        "num_hidden_layers": 2, "state_size": 8}),
    decoder("rwkv", "RwkvForCausalLM", {"vocab_size": 99, "hidden_size": 32,
        "num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": 64}),
)
# fmt: on
