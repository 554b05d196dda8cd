"""One notebook: llm_vs_sae."""
