"""pytest puts this folder on sys.path, so that the folders below can import its helper modules."""
