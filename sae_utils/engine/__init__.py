"""The implementation behind the front modules of `sae_utils`; notebooks and users import the front instead."""
