"""What every reader of a file stands on: YAML with places, formats as data, mistakes, units."""
