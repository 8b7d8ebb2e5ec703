"""What ``keybrake doctor`` looks at."""
