"""Models: a configuration, parameters and a tokenizer, with methods that compute."""
