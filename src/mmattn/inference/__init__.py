"""Trained models and annotators over whole libraries: records, jobs, engines, search. See docs/predict.md."""
