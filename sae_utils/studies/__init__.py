"""What the notebooks ask: a module or a small package a notebook, named after it, on top of all other rooms."""
