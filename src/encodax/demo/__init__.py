"""Reading dates in 68 languages: the data, written by Babel, and the baseline to compare with."""
