"""The analysis of notebook `llm_vs_sae`: SAE features compared with the models' own neurons and other units."""
