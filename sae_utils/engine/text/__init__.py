"""Text: toy stories and other corpora, their splits, and their token rows."""
