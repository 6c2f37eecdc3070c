"""Weight files that come with the package."""
