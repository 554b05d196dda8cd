"""The analysis of notebooks `13` and `13b`: models and SAEs on the way, and what their text decides."""
