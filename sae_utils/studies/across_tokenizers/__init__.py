"""The analysis of notebook `across_tokenizers`: codes at the positions that two tokenizers share, and its figures."""
