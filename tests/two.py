"""The sections of a profile with two dictionaries of two models."""


def sections(a: str, b: str, curve: str = '""') -> str:
    """YAML of the keys that every notebook needs; `curve`: a model with checkpoints."""
    return f"""
00_models_and_dictionaries:
  {{curve: {curve}}}
03_layer_sweep: {{pairs: {{both: [[{a}], [{b}]]}}}}
04_llm_vs_sae: {{beside: {{}}}}
04b_neurons_by_index_or_concept: {{by_index: {{}}}}
07_controls: {{sae_seeds: [], twins: {{}}, models: {{}}, frozen: [], trained: []}}
07c_twins: {{a: [], b: [], twins: {{}}}}
08b_attribution: {{sae_seeds: [], twins: {{}}}}
08c_interventions: {{sae_seed: ""}}
10b_topology: {{twin: "", sae_seeds: []}}
10c_families: {{twin: "", sae_seeds: []}}
07b_sensitivity: {{other_dictionaries: {{}}}}
08_function: {{groups: []}}
11_across_tokenizers: {{comparisons: []}}
12_published_tables: {{published_layers: {{}}}}
12c_steps_and_truth: {{negative: {b}}}
13_training_phases: {{followed: [], along: ""}}
13b_data: {{dictionary: "", topics: [], poisoned: "", clean: []}}
"""
