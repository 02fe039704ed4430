"""Small files of our own: clips, pictures, sounds, bundles."""
