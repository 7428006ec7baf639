"""Pictures in the formats PNG, GIF, BMP, ICO, WebP and JPEG XL."""
