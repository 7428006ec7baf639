"""What all locators are made of: byte sources, patches, categories, cleaners."""
