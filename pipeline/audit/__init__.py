"""Reports -> what they state, read without the templates, and held against the findings."""
