"""Run directories to pages: runs compared, one file explained, a library shown. See docs/compare.md."""
