"""States: the residual stream of a model that runs."""
