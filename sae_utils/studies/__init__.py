"""The analyses of single notebooks; each module or package is named after its notebook."""
