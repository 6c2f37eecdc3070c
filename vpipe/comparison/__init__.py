"""Flow against flow-free on one machine: networks of every kind, trained by one recipe and measured alike."""
