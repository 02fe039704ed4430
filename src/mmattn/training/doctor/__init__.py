"""Is this machine fit to train and to predict?"""
