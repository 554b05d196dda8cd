"""Study of notebooks 10, 10b and 10c: circles, shapes and families of features, within a model and across two."""
