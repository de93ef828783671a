"""From clips to images: transforms, recipes and controls."""
