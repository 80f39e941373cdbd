"""Explorer: an HTML page that shows how a model processed a text."""
