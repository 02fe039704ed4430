"""The verbs of the command line that run inference: predict, search, data features, data label, data prompts."""
