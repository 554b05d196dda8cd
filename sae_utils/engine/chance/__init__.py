"""Draws of nulls, scores of many subsets, intervals."""
