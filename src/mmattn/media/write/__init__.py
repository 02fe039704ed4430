"""Write small files: video, images, audio, bundles."""
