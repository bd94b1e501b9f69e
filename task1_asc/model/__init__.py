"""The networks of Task 1, and the front end before them."""
