"""Many slides after their run: what each holds, which to look at first, and a page that shows it."""
