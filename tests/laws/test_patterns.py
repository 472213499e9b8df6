"""The laws over one micro model per pattern that channel removal must get right.

The table says what is found today. A pattern that becomes pinned, or loses freedom, shows here;
so does one that gains it, which is a reason to correct the table.
"""

from __future__ import annotations

import pytest
from zoo.patterns import PATTERNS

from edgec.graph.channels import channel_groups
from laws import Found, obey

# pattern: groups, units that can be removed, pins, units that the permutation law moved
EXPECTED = {
    "conv_bn_relu": (1, 8, 1, 8),
    "conv_chain_biased": (2, 14, 1, 14),
    "conv1d": (1, 8, 1, 8),
    "conv3d": (1, 8, 1, 8),
    "grouped_conv": (2, 20, 1, 20),
    "grouped_conv_quantised": (2, 16, 1, 16),  # the same inputs in every group
    "grouped_conv_pair": (2, 18, 1, 18),
    "depthwise": (1, 8, 1, 8),
    "depthwise_multiplier_2": (1, 8, 1, 8),
    "conv_transpose": (2, 14, 1, 14),
    "conv_transpose_grouped": (2, 14, 1, 14),
    "conv_transpose_grouped_quantised": (2, 11, 2, 11),  # the same outputs in every group
    "conv_transpose_depthwise": (1, 8, 1, 8),
    "residual_chain": (3, 19, 1, 19),
    "residual_projection": (2, 14, 1, 14),
    "sum_of_three": (1, 8, 1, 8),
    "maximum_of_two": (1, 8, 1, 8),
    "densenet_concat_chain": (5, 30, 1, 30),
    "c2f": (4, 18, 1, 18),
    "shared_conv_twice": (1, 8, 1, 8),
    "shared_conv_two_levels": (2, 14, 1, 14),
    "two_outputs": (1, 8, 2, 8),
    "output_is_hidden": (1, 6, 2, 6),
    "se_conv": (2, 10, 1, 10),
    "se_linear": (2, 10, 1, 10),
    "spatial_attention": (0, 0, 2, 0),
    "one_channel_gate": (1, 8, 1, 8),
    "layer_scale": (1, 8, 1, 8),
    "prelu": (1, 8, 1, 8),
    "prelu_one_slope": (1, 8, 1, 8),
    "activations": (1, 8, 1, 8),
    "instance_norm": (1, 8, 1, 8),
    "group_norm": (1, 4, 1, 4),
    "group_norm_of_one_group": (0, 0, 2, 0),
    "group_norm_decomposed": (1, 4, 1, 4),
    "lrn": (1, 8, 1, 0),
    "pools": (2, 16, 1, 16),
    "global_pool_classifier": (1, 8, 1, 8),
    "resize_scales": (1, 8, 1, 8),
    "resize_sizes": (1, 8, 1, 8),
    "upsample_opset_9": (1, 8, 1, 8),
    "dropout_identity_cast": (1, 8, 1, 8),
    "channel_shuffle": (1, 4, 1, 4),
    "channel_shuffle_grouped": (1, 12, 3, 12),
    "nhwc_flatten": (1, 8, 1, 8),
    "nchw_flatten": (1, 8, 1, 8),
    "nchw_flatten_matmul": (1, 8, 1, 8),
    "computed_flatten": (1, 8, 1, 8),
    "computed_merge_with_batch": (1, 8, 1, 8),
    "computed_resize": (1, 8, 1, 8),
    "concat_positive_axis": (2, 10, 1, 10),
    "concat_negative_axis": (2, 10, 1, 10),
    "concat_same_twice": (1, 6, 1, 6),
    "concat_then_add": (2, 10, 1, 10),
    "concat_batch": (1, 6, 1, 6),
    "concat_with_input": (1, 6, 1, 6),
    "concat_flatten_linear": (2, 10, 1, 10),
    "pad_channels": (3, 8, 1, 8),
    "pad_axes": (2, 7, 2, 7),
    "pad_spatial": (1, 8, 1, 8),
    "pixel_shuffle": (1, 2, 1, 2),
    "depth_to_space_dcr": (1, 2, 1, 2),
    "pixel_unshuffle_reshape": (1, 6, 1, 6),
    "pixel_unshuffle_space_to_depth": (1, 6, 1, 6),
    "focus_slices": (1, 6, 1, 6),
    "split_unequal": (4, 15, 1, 15),
    "split_glu": (1, 6, 1, 6),
    "slice_hard_coded": (2, 8, 1, 8),
    "slice_strided": (2, 9, 1, 9),
    "slice_reversed": (1, 4, 1, 4),
    "gather_indices": (2, 7, 2, 7),
    "gather_one": (1, 7, 2, 7),  # dead
    "expand_gate": (1, 8, 1, 8),
    "expand_channels": (1, 8, 1, 8),
    "full_like": (1, 8, 1, 8),
    "full_like_heads": (1, 12, 1, 12),
    "expand_as": (1, 8, 1, 8),
    "tile_channels": (1, 4, 1, 4),
    "reduce_spatial": (1, 8, 1, 8),
    "reduce_channels": (0, 0, 2, 0),
    "squeeze_unsqueeze": (1, 8, 1, 8),
    "softmax_channels": (0, 0, 2, 0),
    "cumsum_channels": (0, 0, 2, 0),
    "where_const_mask": (1, 8, 1, 8),
    "channels_into_batch": (0, 0, 2, 0),
    "channels_swap_with_height": (0, 0, 3, 0),
    "ssd_head": (2, 14, 2, 14),
    "mlp_gemm": (2, 15, 1, 15),
    "mlp_matmul": (1, 8, 1, 8),
    "glu_chunk": (1, 8, 1, 8),
    "swiglu": (1, 8, 1, 8),
    "chunk_dim_2": (2, 16, 1, 16),
    "cat_dim_2": (2, 12, 1, 12),
    "cat_dim_minus_1": (2, 12, 1, 12),
    "mixer_token_mixing": (3, 24, 2, 24),
    "weight_on_the_left": (1, 7, 2, 7),
    "tied_embedding": (2, 17, 1, 17),
    "layer_norm": (1, 9, 2, 9),
    "rms_norm_decomposed": (0, 0, 2, 0),
    "convnext_block": (1, 12, 2, 12),
    "patch_tokens": (2, 17, 1, 17),
    "two_inputs_two_outputs": (4, 33, 3, 33),
    "attention_separate": (2, 24, 1, 24),
    "attention_fused_qkv": (1, 24, 1, 24),
    "attention_three_then_heads": (1, 24, 1, 24),
    "attention_inferred_heads": (2, 24, 1, 24),
    "attention_gqa": (2, 16, 1, 16),
    "attention_heads_in_batch": (2, 24, 1, 24),
    "rope_halves": (1, 4, 1, 4),
    "rope_fused_qkv": (0, 0, 2, 0),
    "patch_merging": (1, 8, 1, 8),
    "window_partition": (1, 8, 1, 8),
    "lstm": (2, 13, 1, 13),
    "gru": (2, 13, 1, 13),
    "rnn_reverse": (2, 13, 1, 13),
    "lstm_bidirectional": (1, 16, 1, 16),
    "lstm_two_layers": (2, 16, 1, 16),
    "lstm_two_layers_bidirectional": (2, 26, 1, 26),
    "lstm_peephole": (1, 8, 1, 8),
    "lstm_directions_apart": (1, 16, 1, 16),
    "lstm_last_states": (1, 8, 1, 8),
    "gru_state_is_an_input": (0, 0, 2, 0),
    "gru_encoder_decoder": (1, 8, 1, 8),
    "lstm_encoder_decoder": (2, 17, 1, 17),
    "lstm_shared_weights": (1, 8, 1, 8),
    "lstm_options": (1, 8, 1, 8),
    "lstm_filled_states": (1, 8, 1, 8),
    "gru_learned_state": (1, 8, 2, 8),
    "einsum_mlp": (1, 8, 1, 8),
    "einsum_ellipsis": (1, 8, 1, 8),
    "einsum_of_heads": (2, 24, 1, 24),
    "einsum_weights_of_heads": (2, 24, 1, 24),
    "einsum_weight_per_head": (2, 33, 1, 33),
    "einsum_one_weight_for_all_heads": (2, 11, 1, 11),
    "einsum_talking_heads": (1, 3, 2, 3),  # heads that the weight makes
    "einsum_experts": (1, 24, 2, 24),
    "einsum_transposes_and_sums": (2, 15, 1, 15),
    "einsum_of_two_networks": (1, 8, 0, 8),
    "einsum_meets_an_input": (0, 0, 1, 0),
    "einsum_diagonal": (0, 0, 2, 0),
    "einsum_of_three": (0, 0, 2, 0),
    "attention_node": (2, 27, 1, 27),
    "attention_node_mask": (2, 27, 1, 27),
    "attention_node_mask_per_head": (2, 27, 1, 27),
    "attention_node_relative": (2, 27, 1, 27),
    "attention_node_4d": (2, 27, 1, 27),
    "attention_node_gqa": (2, 18, 1, 18),
    "attention_node_mqa": (2, 9, 1, 9),
    "attention_node_cross": (2, 27, 1, 27),
    "attention_node_prefix": (2, 27, 1, 27),
    "attention_node_cache": (0, 0, 2, 0),  # inputs and outputs of the graph
    "attention_node_scores": (2, 27, 1, 27),
    "attention_microsoft": (3, 32, 1, 32),
    "attention_microsoft_cross": (2, 27, 1, 27),
    "attention_microsoft_gqa": (1, 2, 1, 2),  # heads of a fixed width
    "rotary_llama": (2, 12, 1, 12),
    "rotary_interleaved_4d": (2, 17, 1, 17),
    "rotary_partial": (3, 29, 1, 29),
    "rotary_computed": (1, 4, 1, 4),
    "rotary_microsoft": (2, 14, 1, 14),
    "attention_cross": (2, 27, 1, 27),
    "attention_relative": (2, 27, 1, 27),
    "attention_linear": (1, 3, 1, 3),
    "attention_qk_norm": (1, 3, 1, 3),
    "attention_qk_l2": (1, 3, 1, 3),
    "skip_norm": (2, 16, 2, 16),
    "skip_norm_simplified": (2, 16, 2, 16),
    "skip_norm_of_positions": (1, 9, 2, 9),
    "embed_norm": (1, 7, 5, 7),
    "simplified_norm": (1, 9, 2, 9),
    "fused_conv": (1, 8, 1, 8),
    "fused_gemm": (2, 15, 1, 15),
    "fused_matmul_weights": (2, 17, 1, 17),
    "fused_matmul_weight_on_the_left": (2, 16, 1, 16),
    "fused_matmul_heads": (2, 27, 1, 27),
    "fused_matmul_batch_behind": (2, 27, 1, 27),
    "encoder_layer": (3, 31, 7, 31),
    "decoder_layer": (2, 9, 2, 9),
    "grid_sample": (2, 14, 2, 14),
    "unfold_linear": (2, 14, 1, 14),
    "unfold_fold": (1, 6, 1, 6),
    "fold_of_linear": (2, 16, 1, 16),
    "deform_conv": (2, 14, 1, 14),
    "deform_conv_computed_offsets": (3, 22, 3, 22),
    "non_max_suppression": (2, 14, 2, 14),
    "swin": (4, 52, 1, 52),
    "experts_dense": (2, 14, 3, 14),
    "experts_apart": (4, 30, 2, 30),
    "experts_top_k": (2, 14, 5, 14),
    "quantized_chain": (2, 14, 4, 14),
    "quantized_grouped_conv": (2, 16, 3, 16),
    "quantized_depthwise": (1, 8, 3, 8),
    "quantized_biases": (2, 14, 4, 14),
}

# Only channels that nothing reads can go from these: masking them changes nothing.
UNREAD = {"gather_one"}


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern(name: str) -> None:
    found = obey(PATTERNS[name]())
    assert found == Found(*EXPECTED[name], found.changed)
    assert (found.changed > 0.1) == (found.groups > 0 and name not in UNREAD)


# What more freedom finds, where that is something else.
ACROSS_NORMS = {
    "group_norm_of_one_group": (1, 8, 1, 8),
    "reduce_channels": (1, 8, 1, 8),
    "layer_norm": (2, 17, 1, 17),
    "rms_norm_decomposed": (1, 8, 1, 8),
    "convnext_block": (2, 20, 1, 20),
    "skip_norm": (3, 24, 1, 24),
    "skip_norm_simplified": (3, 24, 1, 24),
    "skip_norm_of_positions": (2, 17, 1, 17),
    "embed_norm": (2, 15, 4, 15),
    "simplified_norm": (2, 17, 1, 17),
    "encoder_layer": (4, 43, 4, 43),
    "decoder_layer": (3, 21, 1, 21),
}
DROP_HEADS = {
    "rope_fused_qkv": (1, 2, 1, 2),
    "channel_shuffle": (1, 2, 1, 2),
    "channel_shuffle_grouped": (1, 12, 2, 12),
    "attention_separate": (1, 3, 1, 3),
    "attention_fused_qkv": (1, 3, 1, 3),
    "attention_three_then_heads": (1, 3, 1, 3),
    "attention_inferred_heads": (1, 3, 1, 3),
    "attention_gqa": (1, 2, 1, 2),
    "einsum_of_heads": (1, 3, 1, 3),
    "einsum_weights_of_heads": (1, 3, 1, 3),
    "lstm_bidirectional": (1, 16, 1, 16),
    "attention_node": (1, 3, 1, 3),
    "attention_node_mask": (1, 3, 1, 3),
    "attention_node_mask_per_head": (1, 3, 1, 3),
    "attention_node_relative": (1, 3, 1, 3),
    "attention_node_4d": (1, 3, 1, 3),
    "attention_node_gqa": (1, 2, 1, 2),
    "attention_node_mqa": (1, 3, 3, 3),  # of queries, which share keys and values
    "attention_node_cross": (1, 3, 1, 3),
    "attention_node_prefix": (1, 3, 1, 3),
    "attention_node_scores": (0, 0, 2, 0),
    "attention_microsoft": (2, 11, 1, 11),
    "attention_microsoft_cross": (1, 3, 1, 3),
    "rotary_llama": (1, 2, 1, 2),
    "rotary_interleaved_4d": (1, 3, 1, 3),
    "rotary_partial": (1, 3, 1, 3),
    "rotary_computed": (1, 3, 2, 3),
    "rotary_microsoft": (1, 3, 1, 3),
    "attention_cross": (1, 3, 1, 3),
    "attention_relative": (1, 3, 1, 3),
    "fused_matmul_heads": (1, 3, 1, 3),
    "fused_matmul_batch_behind": (1, 3, 1, 3),
    "swin": (3, 31, 1, 31),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_across_norms(name: str) -> None:
    found = obey(PATTERNS[name](), across_norms=True)
    assert found == Found(*ACROSS_NORMS.get(name, EXPECTED[name]), found.changed)


@pytest.mark.parametrize("name", DROP_HEADS)
def test_drop_heads(name: str) -> None:
    found = obey(PATTERNS[name](), drop_heads=["*"])
    assert found == Found(*DROP_HEADS[name], found.changed)


def test_heads_of_some_nodes_go_whole() -> None:
    """Heads that q makes go whole, and with them those of k and v."""
    model = PATTERNS["attention_separate"]()
    for node, name in zip(model.graph, ("q", "k", "v"), strict=False):
        node.name = name
    assert [g.rows for g in channel_groups(model)] == [3, 3]
    assert [(g.rows, len(g.units)) for g in channel_groups(model, drop_heads=["q"])] == [(1, 3)]
    assert [g.rows for g in channel_groups(model, drop_heads=["other"])] == [3, 3]


def test_every_expectation_is_about_a_pattern() -> None:
    assert list(EXPECTED) == list(PATTERNS)
