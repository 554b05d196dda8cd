"""The analysis of notebook `sensitivity`: the answer by choice of its analysis, and what the share reads."""
