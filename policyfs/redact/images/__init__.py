"""Pictures in the formats PNG, GIF, BMP, WebP and JPEG XL."""
