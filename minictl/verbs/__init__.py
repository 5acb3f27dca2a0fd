"""One module a family of verbs; each holds the verbs' flag tables and what they do."""
