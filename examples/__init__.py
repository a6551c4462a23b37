"""Programs that use Carousel as a user would."""
