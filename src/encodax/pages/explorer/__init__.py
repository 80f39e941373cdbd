"""The explorer: a page of HTML that shows what a model did with a text."""
