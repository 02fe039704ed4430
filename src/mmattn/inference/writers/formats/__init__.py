"""The formats of conf/format, a file each."""
