"""The graph seen through its operators: facts, channel groups, costs, cuts and their proof."""
