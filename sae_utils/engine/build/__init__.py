"""Commands behind `make`: environment, notebooks, their execution, cost of a build, the PDF."""
