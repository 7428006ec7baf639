"""Common parts of all locators: byte sources, patches, categories, cleaners."""
