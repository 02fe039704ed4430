"""Configs by Hydra: composed once, checked before anything is built. Needs no torch."""
