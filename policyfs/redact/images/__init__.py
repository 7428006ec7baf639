"""PNG, GIF, BMP, ICO, WebP, JPEG XL."""
