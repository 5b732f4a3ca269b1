"""Keep archives on disk: writing, reading, verifying, compressing and retaining them."""
