"""The analysis of notebooks `09` and `09b`: one dictionary for two models, and two that are trained to be alike."""
