"""Encoder-decoders, audio, time series, and images with texts."""

from __future__ import annotations

from zoo._architecture import EAGER, NO_CACHE, TEXT, VIT, Architecture, Input, ids, pixels

SEQ2SEQ, AUDIO, SERIES = "encoder-decoder", "audio", "time series"
MULTI = "image and text"

# fmt: off
ROWS = (
    Architecture("t5", SEQ2SEQ, "T5ForConditionalGeneration", EAGER | {"vocab_size": 99, "d_model":
        32,
        "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}, {"input_ids": Input(("batch",
        "sequence"), 99), "decoder_input_ids": Input(("batch", "target"), 99)}, options=NO_CACHE),
    Architecture("flan_t5", SEQ2SEQ, "T5ForConditionalGeneration", EAGER | {"vocab_size": 99,
        "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        {"input_ids": Input(("batch", "sequence"), 99), "attention_mask": Input(("batch",
        "sequence"), 2), "decoder_input_ids": Input(("batch", "target"), 99)}, options=NO_CACHE),
    Architecture("bart", SEQ2SEQ, "BartForConditionalGeneration", {"vocab_size": 99, "d_model": 32,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "max_position_embeddings": 64}, {"input_ids": Input(("batch", "sequence"), 99),
        "decoder_input_ids": Input(("batch", "target"), 99)}, options=NO_CACHE),
    Architecture("marian", SEQ2SEQ, "MarianMTModel", {"vocab_size": 99, "d_model": 32,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "max_position_embeddings": 64, "pad_token_id": 0}, {"input_ids": Input(("batch",
        "sequence"), 99), "decoder_input_ids": Input(("batch", "target"), 99)}, options=NO_CACHE),
    Architecture("whisper", SEQ2SEQ, "WhisperForConditionalGeneration", {"vocab_size": 99,
        "d_model": 32, "num_mel_bins": 16, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48, "max_source_positions": 20, "max_target_positions": 16,
        "pad_token_id": 0, "decoder_start_token_id": 1, "bos_token_id": 1, "eos_token_id": 2},
        {"input_features": Input(("batch", 16, 40)), "decoder_input_ids": Input(("batch",
        "target"), 99)}, options=NO_CACHE),
    Architecture("wav2vec2", AUDIO, "Wav2Vec2ForCTC", TEXT | {"vocab_size": 20, "conv_dim": [16,
        16, 24], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2],
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
        "num_feat_extract_layers": 3}, {"input_values": Input(("batch", 800))}),
    Architecture("hubert", AUDIO, "HubertForCTC", TEXT | {"vocab_size": 20, "conv_dim": [16, 16,
        24], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2], "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4, "feat_extract_norm": "layer",
        "do_stable_layer_norm": True}, {"input_values": Input(("batch", 800))}),
    Architecture("wavlm", AUDIO, "WavLMForCTC", TEXT | {"vocab_size": 20, "conv_dim": [16, 16,
        24], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2], "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4, "num_buckets": 16, "max_bucket_distance": 40},
        {"input_values": Input(("batch", 800))}),
    Architecture("ast", AUDIO, "ASTForAudioClassification", {"hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "patch_size": 4,
        "frequency_stride": 2, "time_stride": 2, "max_length": 24, "num_mel_bins": 16,
        "num_labels": 5}, {"input_values": Input(("batch", 24, 16))}),
    Architecture("patchtst", SERIES, "PatchTSTForPrediction", {"num_input_channels": 2,
        "context_length": 32, "patch_length": 4, "patch_stride": 4, "prediction_length": 8,
        "d_model": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
        "distribution_output": "student_t", "loss": "mse"}, {"past_values": Input(("batch", 32,
        2))}, ("prediction_outputs",)),
    Architecture("patchtsmixer", SERIES, "PatchTSMixerForPrediction", {"num_input_channels": 2,
        "context_length": 32, "patch_length": 4, "patch_stride": 4, "prediction_length": 8,
        "d_model": 16, "num_layers": 2, "mode": "mix_channel", "loss": "mse"},
        {"past_values": Input(("batch", 32, 2))}, ("prediction_outputs",)),
    Architecture("clip", MULTI, "CLIPModel", {"text_config": TEXT | {"eos_token_id": 98},
        "vision_config": VIT, "projection_dim": 24}, ids() | pixels(), ("logits_per_image",
        "image_embeds")),
    Architecture("blip", MULTI, "BlipForImageTextRetrieval",
        {"text_config": TEXT | {"encoder_hidden_size": 32}, "vision_config": VIT,
        "projection_dim": 24, "image_text_hidden_size": 24}, ids() | pixels(), ("itm_score",),
        {"use_itm_head": True}),
)
# fmt: on
