"""What `benchmarks.gpu` measures: Carousel on a device, its peers there, and the floor."""
