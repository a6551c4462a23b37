"""The commands of `carousel-export`, one a module. What is slow to import, they import when run."""
