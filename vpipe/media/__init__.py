"""Reading and writing video: probing, decoding, times, sparse access, frames and files out."""
