"""Ready-made models that annotate files without training, a file or folder each, named as in conf/annotator."""
