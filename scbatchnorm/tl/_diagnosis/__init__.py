"""Did integration go too far? Answered without labels, over arrays; `tl.diagnose` is the adapter."""
