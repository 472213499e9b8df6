"""Rules of quantisation that several profiles share, as TOML files named in `quantize = "…"`."""
