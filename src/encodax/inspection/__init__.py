"""A look inside a model: attention, attribution, and what each layer would answer."""
