"""What the serving benchmark is made of: servers, load, alternating rounds, and what is shown of them."""
