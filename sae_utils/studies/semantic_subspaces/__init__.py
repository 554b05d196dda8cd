"""The analysis of notebook `semantic_subspaces`: whether two models arrange the features of a concept alike."""
