"""Demo: read dates in 68 languages, with data from Babel and a baseline to compare with."""
