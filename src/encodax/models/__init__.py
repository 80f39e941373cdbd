"""Models: a configuration, parameters and a tokenizer, with the calls to compute."""
